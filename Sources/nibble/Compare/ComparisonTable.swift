internal import Foundation
internal import NibblePipelines

/// A comparison's means as lines of text.
struct ComparisonTable: CustomStringConvertible {
    let description: String

    init(_ report: ComparisonReport) {
        let head = ["transformer", "weights", "a step", "PSNR", "SSIM", "latents"]
        let reference = Self.costs(report.reference) + ["", "", ""]
        let variants = report.variants.map { variant in
            Self.costs(variant.transformer) + [
                ComparisonSheet.decibels(variant.mean.psnr), ComparisonSheet.ssim(variant.mean),
                String(format: "%.3g %%", 100 * variant.mean.latentError),
            ]
        }
        let lines = TextTable.lines([head, reference] + variants)
        let memory = "peak memory \(ByteCount(report.peakRssBytes))"
        let count = report.pictures.count == 1 ? "1 picture" : "means over \(report.pictures.count) pictures"
        let equal = report.variants.contains { (1..<report.pictures.count).contains($0.equalPictures) }
        let note = equal ? "; PSNR without pictures that are equal" : ""
        description = (lines + ["\(count)\(note); \(memory)"]).joined(separator: "\n")
    }

    private static func costs(_ transformer: ComparisonReport.Transformer) -> [String] {
        [transformer.name, "\(ByteCount(transformer.weightBytes))", ComparisonSheet.seconds(transformer)]
    }
}
