import Foundation
import NibbleTensors
import NibbleTestSupport
import Testing

@testable import NibbleCheckpoints

/// Writing, against the file of the reference implementation, and what is left when it fails.
@Suite struct SafetensorsWriterTests {
    private let folder: TemporaryFolder

    init() throws { folder = try TemporaryFolder() }

    @Test func writesTheReferencesFile() throws {
        let source = try SafetensorsFile(SafetensorsFileTests.everyType)
        let path = folder.path + "/copy.safetensors"
        let list = source.entries.map { TensorDeclaration(name: $0.name, dtype: $0.dtype, shape: $0.shape) }
        let writer = try SafetensorsWriter(path, tensors: list.shuffled(), metadata: source.metadata)
        #expect(writer.declarations == list)
        for declaration in list.shuffled() { try writer.write(declaration.name, source.tensor(declaration.name)) }
        try writer.finish()
        #expect(try Data(contentsOf: URL(filePath: path)) == Data(contentsOf: URL(filePath: source.location)))
        #expect(folder.names == ["copy.safetensors"])
    }

    private static let goldenFiles = ["flux-tiny/model/vae", "flux-emoji/model/transformer"].flatMap(Goldens.all)

    /// Files that PyTorch's writer made come out the same, header and all.
    @Test(.enabled(if: !goldenFiles.isEmpty, "no golden model beside the repository"), arguments: goldenFiles)
    func rewritesGoldenFiles(_ url: URL) throws {
        let source = try SafetensorsFile(url.path + "/diffusion_pytorch_model.safetensors")
        let path = folder.path + "/copy.safetensors"
        var tensors: [String: Tensor] = [:]
        for name in source.tensorNames { tensors[name] = try source.tensor(name) }
        try SafetensorsWriter.write(tensors, to: path, metadata: source.metadata)
        #expect(try Data(contentsOf: URL(filePath: path)) == Data(contentsOf: URL(filePath: source.location)))
    }

    @Test func writesRowsThatLieApart() throws {
        let matrix = Tensor((0..<12).map(Float.init), shape: [3, 4])
        let path = folder.path + "/a.safetensors"
        try SafetensorsWriter.write(["x": matrix.columns(1..<3)], to: path)
        let stored = try SafetensorsFile(path).tensor("x")
        #expect(stored.shape == [3, 2] && stored.elements(Float.self) == [1, 2, 5, 6, 9, 10])
    }

    @Test func writesNothing() throws {
        try SafetensorsWriter.write([:], to: folder.path + "/a.safetensors")
        #expect(try SafetensorsFile(folder.path + "/a.safetensors").entries.isEmpty)
    }

    @Test func replacesOnlyAtTheEnd() throws {
        let path = try folder.write("a.safetensors", "old")
        let writer = try SafetensorsWriter(path, tensors: [.init(name: "x", dtype: .float32, shape: [1])])
        try writer.write("x", Tensor([1], shape: [1]))
        #expect(try String(contentsOfFile: path, encoding: .utf8) == "old")
        try writer.finish()
        #expect(try SafetensorsFile(path).tensor("x").elements(Float.self) == [1])
        #expect(folder.names == ["a.safetensors"])
    }

    @Test func abandonedWriterLeavesTheOldFileAlone() throws {
        let path = try folder.write("a.safetensors", "old")
        do {
            let writer = try SafetensorsWriter(path, tensors: [.init(name: "x", dtype: .float32, shape: [1])])
            #expect(folder.names.count == 2)
            try writer.write("x", Tensor([1], shape: [1]))
        }
        #expect(folder.names == ["a.safetensors"])
        #expect(try String(contentsOfFile: path, encoding: .utf8) == "old")
    }

    /// A device that is always full stands for the disk: the limit on a process's file size would hit the other suites.
    @Test(.enabled(if: FileManager.default.fileExists(atPath: "/dev/full"), "this system has no /dev/full"))
    func fullDisk() throws {
        let path = try folder.write("a.safetensors", "old")
        #expect(throws: CheckpointError.diskFull(path: path)) {
            _ = try SafetensorsWriter(path, tensors: [], metadata: [:]) { _ in open("/dev/full", O_WRONLY) }
        }
        #expect(folder.names == ["a.safetensors"])
        #expect(try String(contentsOfFile: path, encoding: .utf8) == "old")
    }

    /// The disk runs full after the header, in the middle of the tensors.
    @Test(.enabled(if: FileManager.default.fileExists(atPath: "/dev/full"), "this system has no /dev/full"))
    func diskThatRunsFull() throws {
        let path = try folder.write("a.safetensors", "old")
        var opened: Int32 = -1
        do {
            let list = [TensorDeclaration(name: "x", dtype: .float32, shape: [1])]
            let writer = try SafetensorsWriter(path, tensors: list, metadata: [:]) { temporary in
                opened = open(temporary, O_WRONLY | O_CREAT | O_EXCL, 0o600)
                return opened
            }
            #expect(folder.names.count == 2)
            let full = open("/dev/full", O_WRONLY)
            dup2(full, opened)
            close(full)
            #expect(throws: CheckpointError.diskFull(path: path)) { try writer.write("x", Tensor([1], shape: [1])) }
        }
        #expect(folder.names == ["a.safetensors"])
        #expect(try String(contentsOfFile: path, encoding: .utf8) == "old")
    }

    @Test func unwritableTargets() throws {
        let file = try folder.write("file", "x")
        try FileManager.default.createDirectory(atPath: folder.path + "/sub", withIntermediateDirectories: false)
        for path in [folder.path + "/none/a.safetensors", file + "/a.safetensors", folder.path + "/sub", "/dev/null"] {
            let error = #expect(throws: CheckpointError.self) { try SafetensorsWriter.write([:], to: path) }
            guard case .inaccessible(path, _)? = error else {
                Issue.record("\(path): \(String(describing: error))")
                continue
            }
        }
        #expect(folder.names == ["file", "sub"])
    }
}
