internal import Foundation
internal import NibbleCheckpoints
public import NibbleModels
internal import NibbleTensors

/// What a FLUX.1 transformer saw at each step while it drew some pictures of one size: its inputs, which are small, not
/// its activations.
public struct CalibrationInputs: Sendable {
    /// What the text encoders made of a prompt.
    private struct Prompt {
        let text, pooled: Tensor
    }

    /// A step of a prompt's picture.
    private struct Point {
        let prompt: Int
        let timestep, guidance: Float
        let latents: Tensor
    }

    private let prompts: [Prompt]
    private let points: [Point]
    private let rotary: RotaryAngles

    /// Takes what was recorded.
    ///
    /// - Parameters:
    ///   - trajectories: for each prompt its steps; at least one, all of one size.
    ///   - samples: how many steps to keep, prompt by prompt; those after them are dropped.
    public init(trajectories: [[FluxTransformer.Inputs]], samples: Int) {
        precondition(trajectories.allSatisfy { !$0.isEmpty } && !trajectories.isEmpty)
        prompts = trajectories.map { Prompt(text: $0[0].text, pooled: $0[0].pooled) }
        rotary = trajectories[0][0].rotary
        let all = trajectories.enumerated().flatMap { prompt, steps in
            steps.map { Point(prompt: prompt, timestep: $0.timestep, guidance: $0.guidance, latents: $0.latents) }
        }
        points = Array(all.prefix(samples))
    }

    /// The number of steps.
    public var count: Int { points.count }

    /// Tokens of a step: text and image.
    public var tokensPerPoint: Int { rotary.cosine.rows }

    /// The inputs of a step.
    public subscript(point: Int) -> FluxTransformer.Inputs {
        let point = points[point]
        let prompt = prompts[point.prompt]
        return FluxTransformer.Inputs(
            latents: point.latents, text: prompt.text, pooled: prompt.pooled, timestep: point.timestep,
            guidance: point.guidance, rotary: rotary)
    }
}

// MARK: - File

extension CalibrationInputs {
    /// Writes everything to a safetensors file, so that another process goes on with the same numbers.
    func write(to path: String) throws(CheckpointError) {
        var tensors = ["rotary.cosine": rotary.cosine, "rotary.sine": rotary.sine]
        for (index, prompt) in prompts.enumerated() {
            tensors["prompts.\(index).text"] = prompt.text
            tensors["prompts.\(index).pooled"] = prompt.pooled
        }
        for (index, point) in points.enumerated() { tensors["points.\(index).latents"] = point.latents }
        let table = points.flatMap { [Float($0.prompt), $0.timestep, $0.guidance] }
        tensors["points"] = Tensor(table, shape: [points.count, 3])
        try SafetensorsWriter.write(tensors, to: path)
    }

    /// Reads what `write` wrote.
    init(reading path: String) throws(CheckpointError) {
        let file = try SafetensorsFile(path)
        func tensor(_ name: String) throws(CheckpointError) -> Tensor {
            let tensor = try file.tensor(name)
            guard tensor.dtype == .float32, tensor.shape.rank == 2 else {
                throw .malformedTensor(path: path, name: name, reason: "it is no matrix of F32")
            }
            return tensor
        }
        rotary = RotaryAngles(cosine: try tensor("rotary.cosine"), sine: try tensor("rotary.sine"))
        let table = try tensor("points")
        let values = table.floats()
        var prompts: [Prompt] = []
        while file.tensorNames.contains("prompts.\(prompts.count).text") {
            let index = prompts.count
            prompts.append(
                Prompt(text: try tensor("prompts.\(index).text"), pooled: try tensor("prompts.\(index).pooled")))
        }
        var points: [Point] = []
        for row in 0..<table.rows {
            let line = values[3 * row..<3 * row + 3].map { $0 }
            guard table.width == 3, let prompt = Int(exactly: line[0]), prompts.indices.contains(prompt) else {
                throw .malformedTensor(path: path, name: "points", reason: "row \(row) names no prompt")
            }
            points.append(
                Point(
                    prompt: prompt, timestep: line[1], guidance: line[2], latents: try tensor("points.\(row).latents"))
            )
        }
        self.prompts = prompts
        self.points = points
    }
}
