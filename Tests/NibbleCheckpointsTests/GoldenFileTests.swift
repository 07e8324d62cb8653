import Foundation
import NibbleCheckpoints
import NibbleTensors
import NibbleTestSupport
import Testing

/// Every safetensors file and every component of the golden sets opens.
@Suite struct GoldenFileTests {
    private static let files: [URL] = Goldens.roots.flatMap { root in
        (FileManager.default.enumerator(at: root, includingPropertiesForKeys: nil)?.allObjects ?? [])
            .compactMap { $0 as? URL }.filter { $0.pathExtension == "safetensors" }.sorted { $0.path < $1.path }
    }

    @Test(.enabled(if: !files.isEmpty, "no golden data beside the repository"), arguments: files)
    func opens(_ url: URL) throws {
        let file = try SafetensorsFile(url.path)
        #expect(!file.entries.isEmpty)
        for entry in file.entries {
            let tensor = try file.tensor(entry.name)
            #expect(tensor.shape == entry.shape && tensor.dtype == entry.dtype)
            #expect(Int(bitPattern: tensor.address) % entry.dtype.byteSize == 0)
            #expect(tensor.bytes.count == entry.byteRange.count)
        }
        let data = file.entries.reduce(0) { $0 + $1.byteRange.count }
        #expect(file.entries.last?.byteRange.upperBound == file.byteCount && data < file.byteCount)
    }

    @Test(
        .enabled(if: !Goldens.fluxModels.isEmpty, "no golden model beside the repository"),
        arguments: Goldens.fluxModels)
    func componentsOpen(_ root: URL) throws {
        for component in ["transformer", "text_encoder", "text_encoder_2", "vae"] {
            let source = try Checkpoint.open(root.appending(path: "model/\(component)").path)
            #expect(!source.tensorNames.isEmpty)
            for name in source.tensorNames { _ = try source.tensor(name) }
        }
    }
}
