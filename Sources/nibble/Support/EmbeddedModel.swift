internal import Foundation

/// The model that comes with the repository.
enum EmbeddedModel {
    /// Where it lies, seen from the repository's root.
    private static let relativePath = "Models/flux-emoji"

    /// Its folder: below the working directory or one of the program's parent folders (a build lies inside the
    /// repository); the relative path where it is found nowhere, so that the error names it.
    static let path: String = {
        let program = URL(filePath: CommandLine.arguments.first ?? "").resolvingSymlinksInPath()
        let executable = Bundle.main.executableURL?.resolvingSymlinksInPath() ?? program
        var folders = [URL(filePath: FileManager.default.currentDirectoryPath)]
        var folder = executable.deletingLastPathComponent()
        while folder.path != "/" && folders.count < 10 {
            folders.append(folder)
            folder = folder.deletingLastPathComponent()
        }
        let found = folders.first { folder in
            FileManager.default.fileExists(atPath: folder.appending(path: relativePath + "/model_index.json").path)
        }
        guard let found else { return relativePath }
        return found == folders[0] ? relativePath : found.appending(path: relativePath).path
    }()
}
