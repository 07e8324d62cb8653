/// Which pictures are compared. What is nil comes from the model, as in `FluxRequest`.
public struct ComparisonRequest: Sendable {
    /// What the pictures show; at least one.
    public var prompts: [String]
    /// The seed of each prompt's first picture.
    public var seed: UInt64
    /// Pictures of each prompt, with this seed and those after it.
    public var seedsPerPrompt: Int
    /// Euler steps.
    public var steps: Int?
    /// Distilled guidance.
    public var guidanceScale: Float?
    /// Pixels, a multiple of 16.
    public var width: Int?
    /// Pixels, a multiple of 16.
    public var height: Int?

    /// See the properties.
    public init(
        prompts: [String], seed: UInt64 = 1, seedsPerPrompt: Int = 1, steps: Int? = nil, guidanceScale: Float? = nil,
        width: Int? = nil, height: Int? = nil
    ) {
        self.prompts = prompts
        self.seed = seed
        self.seedsPerPrompt = seedsPerPrompt
        self.steps = steps
        self.guidanceScale = guidanceScale
        self.width = width
        self.height = height
    }

    /// Throws `PipelineError.invalidRequest` where there is nothing to compare or absurdly much; the rest is checked against
    /// the model.
    public func check() throws(PipelineError) {
        guard !prompts.isEmpty else {
            throw .invalidRequest(parameter: "prompts", found: "none", expected: "at least one prompt")
        }
        guard (1...10_000).contains(seedsPerPrompt) else {
            throw .invalidRequest(
                parameter: "seeds", found: "\(seedsPerPrompt)", expected: "a number from 1 to 10000")
        }
    }

    /// The request of one of a prompt's pictures.
    func request(prompt: String, seedOffset: Int) -> FluxRequest {
        FluxRequest(
            prompt: prompt, steps: steps, guidanceScale: guidanceScale, width: width, height: height,
            seed: seed &+ UInt64(seedOffset))
    }
}

/// What happens while pictures are compared.
public enum ComparisonEvent: Sendable {
    /// Some blocks or steps are done.
    case progress(ComparisonProgress)
    /// A transformer has made one of the pictures.
    case picture(ComparedPicture)
    /// All transformers have made a picture: the figures of all pictures so far. The last one is the whole report.
    case report(ComparisonReport)
}

/// A picture by one of the transformers.
public struct ComparedPicture: Sendable {
    /// Which of the report's pictures, from 0.
    public let index: Int
    /// Which transformer: 0 is the model's own, then the variants.
    public let column: Int
    /// The picture's name in the report, a dot, and the transformer's: no two pictures of a comparison share it.
    public let name: String
    /// The picture.
    public let picture: FluxPicture
}

/// How far a comparison is.
public struct ComparisonProgress: Sendable {
    /// Which picture, from 0, and how many.
    public let picture, pictures: Int
    /// The transformer that makes it.
    public let transformer: String
    /// Steps that are done of those that it takes.
    public let step, steps: Int
    /// The share of all steps by all transformers that is done, 0...1.
    public let fraction: Double
    /// Seconds until the last step, each transformer at its own speed; nil before anything is done.
    public let secondsLeft: Double?
}

/// How fast each transformer works, and what is left to do.
struct ComparisonPace {
    private let pictures, columns: Int
    private var stepSeconds: [[Double]]

    init(pictures: Int, columns: Int) {
        (self.pictures, self.columns) = (pictures, columns)
        stepSeconds = Array(repeating: [], count: columns)
    }

    /// A picture's steps are done.
    mutating func add(_ seconds: [Double], column: Int) { stepSeconds[column] += seconds }

    /// The median of each transformer's steps; 0 for one that has made none.
    var medians: [Double] { stepSeconds.map(Self.median) }

    private static func median(_ values: [Double]) -> Double {
        guard !values.isEmpty else { return 0 }
        let (sorted, middle) = (values.sorted(), values.count / 2)
        return values.count.isMultiple(of: 2) ? (sorted[middle - 1] + sorted[middle]) / 2 : sorted[middle]
    }

    /// Where the whole stands when one transformer is in the midst of a picture.
    func progress(_ now: FluxEvent.Progress, picture: Int, column: Int, name: String) -> ComparisonProgress {
        let done = (Double(picture * columns + column) + now.fraction) / Double(pictures * columns)
        // A transformer that has not yet run is taken to be as fast as the present one.
        let present = now.secondsPerStep
        let paces = stepSeconds.enumerated().map { index, seconds in
            seconds.isEmpty || index == column ? present ?? medians[index] : Self.median(seconds)
        }
        let left = (0..<columns).reduce(0.0) { sum, index in
            let share = index < column ? 0 : index == column ? 1 - now.fraction : 1
            return sum + (share + Double(pictures - picture - 1)) * Double(now.steps) * paces[index]
        }
        return ComparisonProgress(
            picture: picture, pictures: pictures, transformer: name, step: now.step, steps: now.steps,
            fraction: done, secondsLeft: present == nil ? nil : left)
    }
}
