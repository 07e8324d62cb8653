import Foundation
import NibbleCheckpoints
import NibbleModels
import NibbleTensors
import NibbleTestSupport
import Testing

/// The transformer against diffusers' (golden data, f32 arithmetic on bf16 weights).
@Suite struct FluxTransformerTests {
    /// Both engines sum in f32, in another order: activations of about 1 then differ by some 1e-5. The goldens'
    /// README measures what f64 changes and suggests this bound.
    static let tolerance: Float = 2e-4

    struct Case: Sendable, CustomTestStringConvertible {
        let model: URL
        let name: String
        var testDescription: String { "\(model.lastPathComponent) \(name)" }
    }

    static let cases: [Case] = Goldens.fluxModels.flatMap { model in
        GoldenCase.all(of: model).map { Case(model: model, name: $0.file) }
    }

    /// Inputs of step 0.
    static func inputs(_ golden: GoldenTensors, _ config: FluxConfig) throws -> FluxTransformer.Inputs {
        func matrix(_ name: String) throws -> Tensor {
            let shape = try golden.shape(name)
            return Tensor(try golden.floats(name), shape: Shape(Array(shape.suffix(2))))
        }
        let image = try golden.floats("img_ids")
        let text = try golden.floats("txt_ids")
        let places = stride(from: 0, to: text.count + image.count, by: 3).map { start in
            let all = text + image
            return SIMD3(all[start], all[start + 1], all[start + 2])
        }
        return FluxTransformer.Inputs(
            latents: try matrix("latents_init_packed"), text: try matrix("t5_hidden"),
            pooled: try matrix("clip_pooled"), timestep: try golden.floats("timesteps")[0],
            guidance: 1000 * (golden.names.contains("guidance") ? try golden.floats("guidance")[0] : 0),
            rotary: FluxRotary.angles(places: places, axes: config.axesDimsRope))
    }

    static func model(_ folder: URL) throws -> FluxTransformer {
        let folder = folder.appending(path: "model/transformer")
        let config = try JSONDecoder().decode(
            FluxConfig.self, from: Data(contentsOf: folder.appending(path: "config.json")))
        return try FluxTransformer(config, weights: WeightReader(Checkpoint.open(folder.path)))
    }

    static func predict(
        _ model: FluxTransformer, _ inputs: FluxTransformer.Inputs, on compute: Compute
    ) -> [Float] {
        let prediction = Tensor(zeros: [inputs.latents.rows, model.config.outChannels], .float32)
        model(inputs, into: prediction, on: compute) { _ in }
        return prediction.floats()
    }

    @Test(arguments: cases)
    func `the first prediction and every stored activation are diffusers'`(_ one: Case) throws {
        let golden = try GoldenTensors(one.model.appending(path: "golden/\(one.name)"))
        let model = try Self.model(one.model)
        let compute = Compute(precision: .f32)
        var compared: Set<String> = []
        var worst: (name: String, difference: Float) = ("", 0)
        compute.observer = { name, activation in
            guard golden.names.contains(name), let expected = try? golden.floats(name) else { return }
            compared.insert(name)
            let difference = maximumDifference(activation, expected)
            if difference > worst.difference { worst = (name, difference) }
            #expect(difference <= Self.tolerance, "\(name) differs by \(difference)")
        }
        let prediction = Self.predict(model, try Self.inputs(golden, model.config), on: compute)
        let expected = try golden.floats("noise_pred").prefix(prediction.count)
        let difference = maximumDifference(prediction, Array(expected))
        #expect(difference <= Self.tolerance, "the prediction differs by \(difference)")
        // Every block that the file holds was compared, so that a renamed observation cannot hide a difference.
        let stored = golden.names.filter { name in
            ["double.", "single."].contains { name.hasPrefix($0) }
                && [".txt", ".img", ".q", ".k", ".v", ".attn", ".ff", ".ff_context", ".x", ".proj_out"]
                    .contains { name.hasSuffix($0) }
        }
        #expect(stored.subtracting(compared).isEmpty, "not compared: \(stored.subtracting(compared).sorted())")
        print(
            "\(one.testDescription): prediction within \(difference), worst of \(compared.count) activations \(worst)")
    }

    @Test(arguments: cases)
    func `rotary angles and places are diffusers'`(_ one: Case) throws {
        let golden = try GoldenTensors(one.model.appending(path: "golden/\(one.name)"))
        let rotary = try Self.inputs(golden, try Self.model(one.model).config).rotary
        // Stored twice for each pair; angles are computed in f64 on both sides, so that rounding once is all.
        for (name, tensor) in [("rope.cos", rotary.cosine), ("rope.sin", rotary.sine)] where golden.names.contains(name)
        {
            let doubled = tensor.floats().flatMap { [$0, $0] }
            #expect(maximumDifference(doubled, try golden.floats(name)) <= 1.2e-7, "\(name)")
        }
        let text = try golden.shape("txt_ids")[0]
        let image = try golden.floats("img_ids")
        let columns = Int(image.max() ?? 0) + 1
        let widest = (0..<image.count / 3).map { Int(image[$0 * 3 + 2]) }.max().map { $0 + 1 } ?? columns
        let rows = image.count / 3 / widest
        let places = FluxRotary.places(textTokens: text, rows: rows, columns: widest)
        #expect(places.dropFirst(text).flatMap { [$0.x, $0.y, $0.z] } == image)
        #expect(places.prefix(text).allSatisfy { $0 == .zero })
    }

    @Test(arguments: Goldens.fluxModels, [Precision.f32, .bf16])
    func `one thread and two give the same bytes`(_ folder: URL, _ precision: Precision) throws {
        let name = try #require(GoldenCase.all(of: folder).first).file
        let golden = try GoldenTensors(folder.appending(path: "golden/\(name)"))
        let model = try Self.model(folder)
        let inputs = try Self.inputs(golden, model.config)
        let runs = [1, 2, 3].map { threads in
            Self.predict(model, inputs, on: Compute(precision: precision, pool: ThreadPool(threadCount: threads)))
        }
        #expect(runs[0] == runs[1] && runs[0] == runs[2])
    }

    @Test(arguments: Goldens.fluxModels)
    func `bf16 stays near f32`(_ folder: URL) throws {
        let name = try #require(GoldenCase.all(of: folder).first).file
        let golden = try GoldenTensors(folder.appending(path: "golden/\(name)"))
        let model = try Self.model(folder)
        let prediction = Self.predict(
            model, try Self.inputs(golden, model.config), on: Compute(precision: .bf16))
        let expected = Array(try golden.floats("noise_pred").prefix(prediction.count))
        let error = relativeError(prediction, expected)
        // bf16 rounds each operand by up to 2^-9 of itself; such errors, unrelated to one another, add up like their
        // squares over the some 10 roundings of each block: 2^-9 · √(10 · 6) ≈ 1.5e-2 is the most to expect.
        #expect(error <= 1.5e-2, "relative error \(error)")
        print("\(folder.lastPathComponent) bf16: relative error \(error)")
    }

    @Test(
        .enabled(if: !Goldens.realConfigurations.isEmpty, "needs shared/data/flux-configs"),
        arguments: Goldens.realConfigurations)
    func `the real configurations ask for every tensor of the real indexes, and for nothing else`(_ folder: URL) throws
    {
        let transformer = folder.appending(path: "transformer")
        let config = try JSONDecoder().decode(
            FluxConfig.self, from: Data(contentsOf: transformer.appending(path: "config.json")))
        let index = try WeightIndex(
            transformer.appending(path: "diffusion_pytorch_model.safetensors.index.json"))
        let weights = ZeroWeights(names: index.names)
        // The constructor itself refuses tensors that are left over.
        _ = try FluxTransformer(config, weights: WeightReader(weights))
        #expect(Set(weights.requests.keys) == index.names)
        // The index gives no shapes, but their sum: bytes of all tensors in bf16.
        let bytes = weights.requests.values.reduce(0) { $0 + 2 * $1.elementCount }
        #expect(bytes == index.totalSize)
    }

    @Test(arguments: Goldens.fluxModels)
    func `steps after the first allocate nothing`(_ folder: URL) throws {
        let name = try #require(GoldenCase.all(of: folder).first).file
        let golden = try GoldenTensors(folder.appending(path: "golden/\(name)"))
        let model = try Self.model(folder)
        let inputs = try Self.inputs(golden, model.config)
        let compute = Compute(precision: .bf16)
        _ = Self.predict(model, inputs, on: compute)
        let reserved = compute.workspace.reservedBytes
        _ = Self.predict(model, inputs, on: compute)
        #expect(compute.workspace.reservedBytes == reserved)
    }

    @Test(arguments: Goldens.fluxModels)
    func `weights that are let go come back unchanged`(_ folder: URL) throws {
        let name = try #require(GoldenCase.all(of: folder).first).file
        let golden = try GoldenTensors(folder.appending(path: "golden/\(name)"))
        let model = try Self.model(folder)
        let inputs = try Self.inputs(golden, model.config)
        let compute = Compute(precision: .f32)
        let kept = Self.predict(model, inputs, on: compute)
        let streamed = Tensor(zeros: [inputs.latents.rows, model.config.outChannels], .float32)
        for _ in 0..<2 {
            model(inputs, into: streamed, residency: .stream, on: compute) { _ in }
            #expect(streamed.floats() == kept)
        }
    }
}
