internal import NibbleCheckpoints
internal import NibbleTensors

struct LayerQuantizer {
    init(_ recipe: LayerRecipe, seed: UInt64, on compute: Compute) {}
    func callAsFunction(_ group: LayerGroup, _ statistics: InputStatistics?) throws -> QuantizedGroup { fatalError() }
}
enum ModulationQuantizer {
    static func quantize(name: String, weight: Tensor, bias: Tensor, splits: Int) throws -> Int4ModulationWeights {
        fatalError()
    }
}
