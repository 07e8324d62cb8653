internal import NibbleTensors

/// The forms that a FLUX.1 with 4-bit layers is written in.
public enum Int4Form: String, Sendable, CaseIterable {
    /// Nunchaku's single file, or its older folder: `NunchakuCheckpoint`.
    case nunchaku
    /// The folder that diffusers' own loader takes: `NunchakuLiteCheckpoint`.
    case nunchakuLite = "nunchaku-lite"
    /// The order of the CPU's kernels, only mapped: `NibbleCheckpoint`.
    case nibble

    /// This form's key of a part of a layer that Nunchaku's engine knows by another one; `bias` is the same in all. The
    /// original smoothing has none where it is not kept.
    func key(_ key: String) -> String {
        switch self {
        case .nunchaku: key
        case .nunchakuLite: Self.liteKeys[key] ?? key
        case .nibble: Self.nibbleKeys[key] ?? key
        }
    }

    private static let liteKeys = [
        "smooth": "smooth_factor", "lora_down": "proj_down", "lora_up": "proj_up",
        // Not there: the smoothing stands for it.
        "smooth_orig": "smooth_factor",
    ]

    private static let nibbleKeys = [
        "qweight": "codes", "wscales": "scales", "wzeros": "zeros", "lora_down": "down", "lora_up": "up",
    ]
}

extension Checkpoint {
    /// The form of a 4-bit transformer; opening it may still find faults.
    ///
    /// - Parameter path: a file or a folder.
    /// - Returns: what its names or its metadata say; nil for anything else. Other number formats count as the form that
    ///   they are in.
    public static func int4Form(of path: String) -> Int4Form? { (try? Int4Files(path))?.form }

    /// Refuses what has 4-bit layers where weights of 16 or 32 bits are asked for.
    ///
    /// - Parameters:
    ///   - path: a file or a folder.
    ///   - component: what it should be: "transformer", "T5 encoder".
    /// - Throws: `CheckpointError.wrongFormat`.
    public static func checkIsPlain(_ path: String, _ component: String) throws(CheckpointError) {
        guard let form = int4Form(of: path) else { return }
        throw .wrongFormat(
            path: path, found: "a 4-bit \(component) already (\(form.rawValue))", expected: "one of 16 or 32 bits")
    }

    /// Opens a 4-bit transformer of any form.
    ///
    /// - Parameter path: a file or a folder.
    /// - Returns: its layers, compared with what its configuration asks for.
    /// - Throws: `CheckpointError`: `.wrongFormat` for what is no 4-bit transformer, and for NVFP4.
    public static func openInt4(_ path: String) throws(CheckpointError) -> any Int4Checkpoint {
        let files = try Int4Files(path)
        return switch files.form {
        case .nibble: try NibbleCheckpoint(files)
        case .nunchakuLite: try NunchakuLiteCheckpoint(files)
        case .nunchaku, nil: try NunchakuCheckpoint(files)
        }
    }
}
