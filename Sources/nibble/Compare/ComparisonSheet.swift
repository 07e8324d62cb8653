internal import Foundation
internal import NibbleImages
internal import NibblePipelines

/// A comparison's pictures and figures as one picture.
struct ComparisonSheet {
    /// More rows would not be looked at; all pictures are beside the sheet.
    private static let maximumRows = 16

    /// The report's pictures that have a row, by their numbers.
    private let shown: [Int]
    private var cells: [Int: [ContactSheet.Cell]] = [:]

    private let title: String

    /// Chooses the pictures: all, or where those are too many, the first seeds of the first prompts.
    ///
    /// - Parameters:
    ///   - request: the pictures.
    ///   - title: stands above them.
    init(_ request: ComparisonRequest, title: String) {
        self.title = title
        let count = request.prompts.count * request.seedsPerPrompt
        let isSmall = count <= Self.maximumRows
        shown =
            isSmall
            ? Array(0..<count)
            : request.prompts.indices.prefix(Self.maximumRows).map { $0 * request.seedsPerPrompt }
    }

    /// Keeps a picture if it is to be shown, at the size at which it is.
    mutating func add(_ compared: ComparedPicture) {
        guard shown.contains(compared.index) else { return }
        cells[compared.index, default: []].append(ContactSheet.Cell(compared.picture.bitmap))
    }

    /// The sheet of all pictures that a report has.
    func contactSheet(_ report: ComparisonReport) -> ContactSheet {
        let rows = shown.filter { $0 < report.pictures.count }.map { index in
            let picture = report.pictures[index]
            let captions = ["seed \(picture.seed)"] + picture.deviations.map(Self.caption)
            let cells = zip(cells[index] ?? [], captions).map { $0.captioned($1) }
            return ContactSheet.Row(title: picture.prompt, cells: cells)
        }
        var facts = [
            "\(report.width) × \(report.height) pixels", report.steps == 1 ? "1 step" : "\(report.steps) steps",
        ]
        if let guidance = report.guidance { facts.append("guidance \(guidance.formatted())") }
        facts.append("means over \(report.pictures.count == 1 ? "1 picture" : "\(report.pictures.count) pictures")")
        return ContactSheet(
            title: title, subtitle: facts.joined(separator: "  ·  "),
            columns: [Self.column(report)] + report.variants.map(Self.column), rows: rows)
    }

    private static func caption(_ deviation: Deviation) -> String {
        deviation.psnr.value.isFinite ? "\(decibels(deviation.psnr)) · SSIM \(ssim(deviation))" : "equal"
    }

    private static func column(_ report: ComparisonReport) -> ContactSheet.Column {
        ContactSheet.Column(
            title: "Full precision (\(report.precision))",
            notes: ["the model's own transformer", cost(report.reference)])
    }

    private static func column(_ variant: ComparisonReport.Variant) -> ContactSheet.Column {
        let file = URL(filePath: variant.transformer.path).lastPathComponent
        let title = variant.transformer.activations.map { "4-bit, \($0) activations" } ?? "Transformer"
        return ContactSheet.Column(
            title: title, notes: [file, cost(variant.transformer), "mean \(caption(variant.mean))"])
    }

    private static func cost(_ transformer: ComparisonReport.Transformer) -> String {
        "\(ByteCount(transformer.weightBytes)) · \(seconds(transformer)) a step"
    }
}

extension ComparisonSheet {
    /// A ratio as people write it.
    static func decibels(_ decibels: Decibels) -> String {
        decibels.value.isFinite ? String(format: "%.2f dB", decibels.value) : "equal"
    }

    /// Four digits: the differences that matter lie in the third.
    static func ssim(_ deviation: Deviation) -> String { String(format: "%.4f", deviation.ssim) }

    /// Three digits, whether a step takes milliseconds or minutes.
    static func seconds(_ transformer: ComparisonReport.Transformer) -> String {
        let seconds = transformer.secondsPerStep
        let digits = seconds < 0.995 ? 3 : seconds < 9.95 ? 2 : 1
        return String(format: "%.\(digits)f s", seconds)
    }
}
