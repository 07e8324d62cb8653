public import Foundation

/// Where golden data lies: the folders named in the environment variable `NIBBLE_GOLDENS` (separated by colons),
/// `shared/golden` beside the repository where it exists, or else the project's own fixtures.
public enum Goldens {
    /// The repository's root.
    public static let repository = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
        .deletingLastPathComponent()

    /// All golden roots that exist.
    public static let roots: [URL] = {
        let named = ProcessInfo.processInfo.environment["NIBBLE_GOLDENS"]?.split(separator: ":").map(String.init) ?? []
        let shared = repository.deletingLastPathComponent().appending(path: "shared/golden")
        let fixtures = repository.appending(path: "Tests/Fixtures/golden")
        // The fixtures are a part of the shared set: both would test the same twice.
        let own = FileManager.default.fileExists(atPath: shared.path) ? shared : fixtures
        return (named.map { URL(filePath: $0) } + [own]).filter { FileManager.default.fileExists(atPath: $0.path) }
    }()

    /// The files or folders of that relative path in every root that has one.
    public static func all(_ relativePath: String) -> [URL] {
        roots.map { $0.appending(path: relativePath) }.filter { FileManager.default.fileExists(atPath: $0.path) }
    }

    /// The model folders `flux-*` of all roots: each holds `model` and `golden`.
    public static let fluxModels: [URL] = roots.flatMap { root in
        ((try? FileManager.default.contentsOfDirectory(atPath: root.path)) ?? []).filter { $0.hasPrefix("flux-") }
            .sorted().map { root.appending(path: $0) }
            .filter { FileManager.default.fileExists(atPath: $0.appending(path: "golden/cases.json").path) }
    }
}
