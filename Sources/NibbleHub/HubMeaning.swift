/// What a model's name stands for.
public enum HubMeaning: Sendable {
    /// The whole model, or the file or folder of the name.
    case asNamed
    /// A transformer: where a model is a collection of Nunchaku's single files, its INT4 one.
    case transformer

    /// The name of what is meant.
    ///
    /// - Parameters:
    ///   - name: as a person gave it.
    ///   - paths: of all files of the model.
    /// - Returns: the name, with the file where one was picked.
    /// - Throws: `HubError.severalTransformers` or `.onlyNVFP4` where none can be picked.
    func resolve(_ name: HubName, among paths: [String]) throws(HubError) -> HubName {
        guard case .transformer = self, name.file == nil else { return name }
        let files = paths.filter { NunchakuFileName($0) != nil }
        let usable = files.filter { NunchakuFileName($0)?.precision == .int4 }.sorted()
        if let only = usable.first, usable.count == 1 {
            return try HubName(model: name.model, file: only, revision: name.revision)
        }
        guard usable.isEmpty else { throw .severalTransformers(model: "\(name)", files: usable) }
        guard files.isEmpty else { throw .onlyNVFP4(model: "\(name)", files: files.sorted()) }
        return name
    }
}
