internal import Foundation
internal import NibbleImages
internal import NibblePipelines

/// Where a comparison's files go.
struct ComparisonFolder {
    let path: String
    /// Whether it was not there before.
    private let isNew: Bool

    /// Makes the folder where it is not there, and sees that it can be written to, before minutes are spent.
    init(_ path: String) throws {
        self.path = path
        var isFolder: ObjCBool = false
        isNew = !FileManager.default.fileExists(atPath: path, isDirectory: &isFolder)
        guard isNew || isFolder.boolValue else {
            throw InputError(path, "is a file; name a folder for the pictures and the report")
        }
        do {
            try FileManager.default.createDirectory(
                atPath: self.path(of: Self.pictures), withIntermediateDirectories: true)
        } catch {
            throw InputError(path, "the folder cannot be made: \(Self.reason(of: error))")
        }
        guard [path, self.path(of: Self.pictures)].allSatisfy(FileManager.default.isWritableFile) else {
            throw InputError(path, "the folder cannot be written to")
        }
    }

    private static let pictures = "pictures"

    /// Takes away what `init` made, where nothing was written into it.
    func removeIfEmpty() {
        // Unlike FileManager, it refuses folders that hold something.
        rmdir(path(of: Self.pictures))
        if isNew { rmdir(path) }
    }

    /// The contact sheet's path.
    var sheet: String { path(of: "contact-sheet.png") }

    /// Writes a picture, with all that it was made from.
    func write(_ compared: ComparedPicture) throws {
        try compared.picture.write(to: path(of: "\(Self.pictures)/\(compared.name).png"))
    }

    /// Writes the figures.
    func write(_ report: ComparisonReport) throws {
        let file = path(of: "report.json")
        do {
            try (report.json() + Data("\n".utf8)).write(to: URL(filePath: file), options: .atomic)
        } catch {
            throw InputError(file, "cannot be written: \(Self.reason(of: error))")
        }
    }

    /// Writes the contact sheet.
    func write(_ sheet: ContactSheet) throws { try PNG.write(sheet.bitmap(), to: self.sheet) }

    private func path(of name: String) -> String { URL(filePath: path).appending(path: name).relativePath }

    /// The system's words where there are any.
    private static func reason(of error: any Error) -> String {
        let cause = (error as NSError).userInfo[NSUnderlyingErrorKey] as? POSIXError
        return cause.map { String(cString: strerror($0.code.rawValue)) } ?? error.localizedDescription
    }
}
