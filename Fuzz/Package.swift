// swift-tools-version: 6.2
import PackageDescription

/// One libFuzzer program for a reader of files from elsewhere. libFuzzer brings `main`.
func fuzzer(_ name: String, of rooms: String...) -> Target {
    .executableTarget(
        name: name, dependencies: rooms.map { .product(name: $0, package: "nibble") },
        swiftSettings: [
            .enableUpcomingFeature("ExistentialAny"),
            .enableUpcomingFeature("InternalImportsByDefault"),
            .enableUpcomingFeature("MemberImportVisibility"),
            .unsafeFlags(["-parse-as-library"]),
        ])
}

/// Built and run by `Scripts/fuzz`, which sets the sanitizers and makes the first inputs.
let package = Package(
    name: "fuzz",
    platforms: [.macOS(.v15)],
    dependencies: [.package(name: "nibble", path: "..")],
    targets: [
        fuzzer("FuzzPNG", of: "NibbleImages"),
        fuzzer("FuzzSafetensors", of: "NibbleCheckpoints", "NibbleTensors"),
        fuzzer("FuzzTokenizers", of: "NibbleTokenizers"),
    ],
    swiftLanguageModes: [.v6]
)
