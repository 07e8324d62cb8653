internal import Foundation

/// Chooses among the paths of a model's files.
public typealias FileChoice = @Sendable (_ paths: [String]) -> [String]

/// Which files of a model are worth their download.
public enum NeededFiles {
    /// The parts of a FLUX.1 pipeline: folders beside `model_index.json`.
    private static let components = [
        "scheduler", "text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2", "transformer", "vae",
    ]
    /// What tokenizers have beside JSON.
    private static let vocabularies = ["merges.txt", "spiece.model"]

    /// What is needed to run a model: of a pipeline in diffusers' layout `model_index.json` and the components'
    /// configurations, tokenizers and safetensors; of any other folder its JSON and safetensors.
    ///
    /// Not chosen: the single file that repeats the folders' weights, other programs' formats, pictures, variants
    /// (`….fp16.safetensors`) where the weights themselves are there, and NVFP4 files of Nunchaku beside INT4 ones.
    ///
    /// - Parameters:
    ///   - paths: of all files, from the model's root.
    ///   - skipped: components whose weights something else replaces; their configurations are chosen all the same.
    /// - Returns: the chosen paths, in the same order.
    public static func toRun(_ paths: [String], withoutWeightsOf skipped: Set<String> = []) -> [String] {
        let isPipeline = paths.contains("model_index.json")
        let folders = Dictionary(grouping: paths.filter(isWeights), by: folder)
        let hasINT4 = paths.contains { NunchakuFileName($0)?.precision == .int4 }
        return paths.filter { path in
            if hasINT4, NunchakuFileName(path)?.precision == .nvfp4 { return false }
            let folder = folder(path)
            if isPipeline {
                if path == "model_index.json" { return true }
                guard components.contains(folder) else { return false }
            }
            guard isWeights(path) else {
                // An index speaks of shards: it goes where they go.
                if path.hasSuffix(".safetensors.index.json") {
                    return !skipped.contains(folder) && !isVariant(path, besides: folders[folder] ?? [])
                }
                return path.hasSuffix(".json") || vocabularies.contains((path as NSString).lastPathComponent)
            }
            return !skipped.contains(folder) && !isVariant(path, besides: folders[folder] ?? [])
        }
    }

    /// What a tokenizer is made of: of a pipeline the component's files, of any other folder its own.
    ///
    /// - Parameter component: `tokenizer` or `tokenizer_2`.
    /// - Returns: a choice.
    public static func tokenizer(_ component: String) -> FileChoice {
        { paths in
            let inside = paths.filter { folder($0) == component }
            return toRun(inside.isEmpty ? paths.filter { folder($0).isEmpty } : inside).filter { !isWeights($0) }
        }
    }

    /// The configuration of a transformer: of a pipeline the component's, of any other folder its own.
    public static func transformerConfiguration(_ paths: [String]) -> [String] {
        let nested = paths.filter { $0 == "transformer/config.json" }
        return nested.isEmpty ? paths.filter { $0 == "config.json" } : nested
    }

    /// What matches one of some patterns of the shell; `*` matches `/` too, and a pattern that ends with `/` means all
    /// below, as in `huggingface_hub`.
    public static func matching(_ patterns: [String]) -> FileChoice {
        let whole = patterns.map { $0.hasSuffix("/") ? $0 + "*" : $0 }
        return { paths in paths.filter { path in whole.contains { fnmatch($0, path, 0) == 0 } } }
    }

    /// What a file or folder of a model means: the folder's files as chosen, or the file, with the shards of an index.
    ///
    /// - Parameters:
    ///   - part: a path from the model's root.
    ///   - paths: of all files.
    ///   - choose: among the paths of a folder, which begin at the folder.
    /// - Returns: paths from the model's root; none where there is no such part.
    static func part(_ part: String, of paths: [String], choose: FileChoice) -> [String] {
        if paths.contains(part) {
            let ending = ".safetensors.index.json"
            let shards = part.hasSuffix(ending) ? String(part.dropLast(ending.count)) + "-" : nil
            return paths.filter { path in path == part || shards.map { isWeights(path) && path.hasPrefix($0) } ?? false
            }
        }
        let prefix = part + "/"
        let inside = paths.filter { $0.hasPrefix(prefix) }.map { String($0.dropFirst(prefix.count)) }
        return choose(inside).map { prefix + $0 }
    }

    private static func isWeights(_ path: String) -> Bool { path.hasSuffix(".safetensors") }

    private static func folder(_ path: String) -> String { (path as NSString).deletingLastPathComponent }

    /// Whether weights are of another type than the plain ones beside them: `model.fp16.safetensors`,
    /// `model.fp16-00001-of-00002.safetensors`, `model.safetensors.index.fp16.json`, beside `model.safetensors`.
    private static func isVariant(_ path: String, besides weights: [String]) -> Bool {
        guard let stem = variantStem(path) else { return false }
        let prefix = folder(path).isEmpty ? stem : folder(path) + "/" + stem
        return weights.contains { other in
            variantStem(other) == nil && (other == prefix + ".safetensors" || other.hasPrefix(prefix + "-"))
        }
    }

    /// The name before a variant's; `nil` where there is none.
    private static func variantStem(_ path: String) -> String? {
        let name = (path as NSString).lastPathComponent
        let pattern = #/(?<stem>[^.]+)\.[A-Za-z]+\d*[A-Za-z]*(-\d+-of-\d+)?\.safetensors(\.index\.json)?/#
        return name.wholeMatch(of: pattern).map { String($0.stem) }
    }
}
