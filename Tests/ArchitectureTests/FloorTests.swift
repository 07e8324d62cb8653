internal import Foundation
internal import Testing

/// Who may import whom: the table of floors in `docs/design.md`, line by line.
@Suite struct FloorTests {
    /// Swift modules that a target may import.
    private static let permitted: [String: Set<String>] = [
        // Floor 2. Tensors know no file format, no model and no logging, so that another processor's can replace them.
        "NibbleTensors": ["CNibbleKernels", "CNibbleSystem", "Foundation", "Synchronization", "Glibc", "Darwin"],
        // Text in, ids out: nothing numeric.
        "NibbleTokenizers": ["Foundation"],
        // Pixels and libpng, no tensors.
        "NibbleImages": ["CNibbleSystem", "Foundation"],
        // Floor 3. Bytes and names, not their meaning.
        "NibbleCheckpoints": ["NibbleTensors", "Foundation", "Synchronization"],
        // Names to local files; what the files mean is not its business.
        "NibbleHub": ["Foundation", "FoundationNetworking", "Synchronization", "Crypto"],
        // Floor 4. A network sees tensors and where they come from: no logging, no arguments, no tokenizers.
        "NibbleModels": ["NibbleTensors", "NibbleCheckpoints", "Foundation", "Synchronization"],
        // Floor 5. Watches a model run and makes its layers smaller; prompts, schedulers and pictures are the pipeline's.
        "NibbleQuantizer": [
            "NibbleTensors", "NibbleTokenizers", "NibbleCheckpoints", "NibbleModels", "CNibbleSystem", "Foundation",
            "Synchronization",
        ],
        // Puts floors 2 to 4 together; the kernels stay behind the tensors.
        "NibblePipelines": [
            "NibbleTensors", "NibbleTokenizers", "NibbleImages", "NibbleCheckpoints", "NibbleModels", "Foundation",
            "Synchronization", "Logging",
        ],
        // Floor 6. Parses, calls, prints.
        "nibble": [
            "NibbleTensors", "NibbleTokenizers", "NibbleImages", "NibbleCheckpoints", "NibbleHub", "NibbleModels",
            "NibbleQuantizer", "NibblePipelines", "Foundation", "Synchronization", "Dispatch", "Glibc", "Darwin",
            "Logging",
            "ArgumentParser", "Yams",
        ],
    ]

    /// Headers of the system that a C target may include; its own are written with quotes.
    private static let permittedHeaders: [String: Set<String>] = [
        // Arithmetic. Without stdio.h, stdlib.h and pthread.h there is no printing, no malloc, no thread. sys/auxv.h tells
        // an ARM processor's features.
        "CNibbleKernels": [
            "arm_neon.h", "assert.h", "cpuid.h", "float.h", "immintrin.h", "limits.h", "math.h", "stdbool.h",
            "stddef.h",
            "stdint.h", "string.h", "sys/auxv.h", "sys/sysctl.h",
        ],
        // What the libraries ask of their callers, and the libraries.
        "CNibbleSystem": [
            "dlfcn.h", "malloc.h", "oneapi/dnnl/dnnl.h", "png.h", "pthread.h", "setjmp.h", "stdbool.h", "stddef.h",
            "stdint.h",
            "stdio.h", "stdlib.h", "string.h",
        ],
    ]

    private static let sources = SourceFile.all(below: "Sources")

    @Test func everyTargetHasItsRow() {
        let targets = Set(Self.sources.map(\.target))
        let rows = Set(Self.permitted.keys).union(Self.permittedHeaders.keys)
        #expect(targets == rows, "every folder of Sources has a row in this file's tables, and the other way round")
    }

    @Test func swiftImportsOnlyWhatItsFloorMay() {
        // Access level and attributes before, a kind of declaration (`import struct Foundation.Data`) after the word.
        let pattern =
            #/
            ^\s* (?: (?: @\w+ (?: \(\w*\) )? | public | package | internal | fileprivate | private ) \s+ )*
            import \s+ (?: (?: struct | class | enum | protocol | func | var | let | typealias ) \s+ )? (\w+)
            /#
        var imports = 0
        for file in Self.sources where file.hasExtension("swift") {
            for (place, module) in file.matches(of: pattern) {
                imports += 1
                #expect(
                    Self.permitted[file.target]?.contains(module) == true,
                    "\(place): \(file.target) may not import \(module); see the table of floors in docs/design.md")
            }
        }
        #expect(imports > 0, "no import line was found: the pattern is wrong")
    }

    @Test func cIncludesOnlyWhatItsFloorMay() {
        var includes = 0
        for file in Self.sources where file.hasExtension("c", "h") {
            for (place, header) in file.matches(of: #/^\s*#\s*(?:include|import)\s*<([^>]*)>/#) {
                includes += 1
                #expect(
                    Self.permittedHeaders[file.target]?.contains(header) == true,
                    "\(place): \(file.target) may not include <\(header)>; see the table of floors in docs/design.md")
            }
            for (place, header) in file.matches(of: #/^\s*#\s*(?:include|import)\s*"([^"]*)"/#) {
                let own = Self.sources.contains {
                    $0.target == file.target && $0.path.hasSuffix("/" + header.split(separator: "/").suffix(1).joined())
                }
                #expect(own, "\(place): \(file.target) may include only its own headers, not \"\(header)\"")
            }
        }
        #expect(includes > 0, "no include line was found: the pattern is wrong")
    }
}
