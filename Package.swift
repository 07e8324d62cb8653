// swift-tools-version: 6.2
import PackageDescription

let swiftSettings: [SwiftSetting] = [
    .enableUpcomingFeature("ExistentialAny"),
    .enableUpcomingFeature("InternalImportsByDefault"),
    .enableUpcomingFeature("MemberImportVisibility"),
]

/// A Swift library of the house; floors and permitted imports are in docs/design.md.
func room(_ name: String, _ dependencies: [Target.Dependency]) -> Target {
    .target(name: name, dependencies: dependencies, swiftSettings: swiftSettings)
}

func tests(_ name: String, _ dependencies: [Target.Dependency], exclude: [String] = []) -> Target {
    .testTarget(
        name: name, dependencies: dependencies + ["NibbleTestSupport"], exclude: exclude, swiftSettings: swiftSettings)
}

let argumentParser: Target.Dependency = .product(name: "ArgumentParser", package: "swift-argument-parser")

let package = Package(
    name: "nibble",
    platforms: [.macOS(.v15)],
    products: [
        .executable(name: "nibble", targets: ["nibble"]),
        .library(name: "NibblePipelines", targets: ["NibblePipelines"]),
        // For the fuzzing package in Fuzz/, which reads files from elsewhere through them.
        .library(name: "NibbleCheckpoints", targets: ["NibbleCheckpoints"]),
        .library(name: "NibbleImages", targets: ["NibbleImages"]),
        .library(name: "NibbleTensors", targets: ["NibbleTensors"]),
        .library(name: "NibbleTokenizers", targets: ["NibbleTokenizers"]),
    ],
    dependencies: [
        .package(url: "https://github.com/apple/swift-argument-parser", from: "1.6.0"),
        // SHA-256 and SHA-1 of what is downloaded.
        .package(url: "https://github.com/apple/swift-crypto", from: "4.0.0"),
        // Recipes of the quantizer.
        .package(url: "https://github.com/jpsim/Yams", from: "6.0.0"),
    ],
    targets: [
        // Floor 1: C. Arithmetic, and shims over libraries that Swift cannot call directly.
        .target(name: "CNibbleKernels"),
        .target(name: "CNibbleSystem", linkerSettings: [.linkedLibrary("dnnl"), .linkedLibrary("png")]),

        // Floor 2
        room("NibbleTensors", ["CNibbleKernels", "CNibbleSystem"]),
        room("NibbleTokenizers", []),
        room("NibbleImages", ["CNibbleSystem"]),

        // Floor 3
        room("NibbleCheckpoints", ["NibbleTensors"]),
        room("NibbleHub", [.product(name: "Crypto", package: "swift-crypto")]),

        // Floor 4
        room("NibbleModels", ["NibbleTensors", "NibbleCheckpoints"]),

        // Floor 5
        room("NibbleQuantizer", ["NibbleTensors", "NibbleCheckpoints", "NibbleModels", "CNibbleSystem"]),
        room(
            "NibblePipelines",
            ["NibbleTensors", "NibbleTokenizers", "NibbleImages", "NibbleCheckpoints", "NibbleModels"]),

        // Floor 6
        .executableTarget(
            name: "nibble",
            dependencies: [
                "NibblePipelines", "NibbleQuantizer", "NibbleModels", "NibbleCheckpoints", "NibbleHub", "NibbleImages",
                "NibbleTokenizers", "NibbleTensors", argumentParser, "Yams",
            ],
            swiftSettings: swiftSettings),

        .target(
            name: "NibbleTestSupport", dependencies: ["NibbleTensors", "NibbleCheckpoints"],
            path: "Tests/NibbleTestSupport", swiftSettings: swiftSettings),
        tests("ArchitectureTests", []),
        tests("NibbleKernelsTests", ["CNibbleKernels"]),
        tests("NibbleTensorsTests", ["NibbleTensors"]),
        tests("NibbleTokenizersTests", ["NibbleTokenizers"], exclude: ["Fixtures"]),
        tests("NibbleImagesTests", ["NibbleImages", "NibbleCheckpoints", "NibbleTensors"]),
        tests("NibbleCheckpointsTests", ["NibbleCheckpoints"]),
        tests("NibbleHubTests", ["NibbleHub"], exclude: ["Fixtures"]),
        tests("NibbleModelsTests", ["NibbleModels"]),
        tests("NibbleQuantizerTests", ["NibbleQuantizer", "NibbleCheckpoints", "NibbleTensors"]),
        tests("NibblePipelinesTests", ["NibblePipelines", "NibbleImages", "NibbleCheckpoints"]),
        tests("CommandLineTests", ["nibble", "NibbleImages"], exclude: ["Snapshots"]),
    ],
    swiftLanguageModes: [.v6],
    cLanguageStandard: .c17
)
