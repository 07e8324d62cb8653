public import Foundation

/// One picture of a golden model, as `golden/cases.json` lists it.
public struct GoldenCase: Decodable, Sendable {
    /// The safetensors file beside `cases.json`.
    public let file: String
    /// The prompt.
    public let prompt: String
    /// T5's prompt; nil: the same.
    public let prompt2: String?
    /// Size in pixels.
    public let width, height: Int
    /// Number of steps.
    public let steps: Int
    /// The seed, written as a string since it may pass 2^53.
    public let seed: String
    /// Guidance.
    public let guidance: Double
    /// Number of T5 tokens.
    public let maxSequenceLength: Int

    /// PSNR of diffusers' own bf16 run against its f32 picture, in dB.
    public let bfloat16PSNR: Double?

    private enum CodingKeys: String, CodingKey {
        case bfloat16PSNR = "bf16_pipeline_image_psnr_same_noise"
        case prompt2 = "prompt_2"
        case file, prompt, width, height, steps, seed, guidance
        case maxSequenceLength = "max_seq"
    }

    /// All cases of a golden model folder; none where the list cannot be read, which a suite with no case shows.
    public static func all(of folder: URL) -> [GoldenCase] {
        struct List: Decodable { let cases: [GoldenCase] }
        guard let data = try? Data(contentsOf: folder.appending(path: "golden/cases.json")) else { return [] }
        return (try? JSONDecoder().decode(List.self, from: data))?.cases ?? []
    }
}
