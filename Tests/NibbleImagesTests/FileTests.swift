internal import Foundation
internal import NibbleImages
internal import Testing

@Suite struct FileTests {
    private let bitmap = pattern(width: 16, height: 12)
    private let folder: TemporaryFolder

    init() throws { folder = try TemporaryFolder() }

    @Test func writtenPicturesAreReadAgain() throws {
        let texts = [PNG.Text(key: "parameters", value: "a red apple")]
        for _ in 0..<2 { try PNG.write(bitmap, texts: texts, to: folder.path("out.png")) }
        let contents = try PNG.read(folder.path("out.png"))
        #expect(contents.bitmap == bitmap)
        #expect(contents.texts == texts)
        #expect(folder.contents == ["out.png"])
    }

    @Test func theFileBehindALinkIsReplaced() throws {
        try PNG.write(pattern(width: 1, height: 1), to: folder.path("real.png"))
        try FileManager.default.createSymbolicLink(
            atPath: folder.path("link.png"), withDestinationPath: folder.path("real.png"))
        try PNG.write(bitmap, to: folder.path("link.png"))
        #expect(try PNG.read(folder.path("real.png")).bitmap == bitmap)
        #expect(
            try FileManager.default.destinationOfSymbolicLink(atPath: folder.path("link.png")).hasSuffix("real.png"))
    }

    @Test func missingFilesAndFoldersAreNamed() {
        for path in [folder.path("nothing.png"), folder.url.path] {
            let error = #expect(throws: ImageError.self) { try PNG.read(path) }
            #expect(error?.kind == "unreadable")
            #expect(error?.description.contains(path) == true)
        }
        let inNoFolder = folder.path("nowhere/out.png")
        #expect(throws: ImageError.unwritable(path: inNoFolder, reason: "No such file or directory")) {
            try PNG.write(bitmap, to: inNoFolder)
        }
        #expect(throws: ImageError.unwritable(path: folder.url.path, reason: "Is a directory")) {
            try PNG.write(bitmap, to: folder.url.path)
        }
    }

    @Test(.enabled(if: geteuid() != 0, "root may write everywhere"))
    func aFolderThatIsClosedToUsIsNamed() throws {
        try FileManager.default.setAttributes([.posixPermissions: 0o555], ofItemAtPath: folder.url.path)
        #expect(throws: ImageError.unwritable(path: folder.path("out.png"), reason: "Permission denied")) {
            try PNG.write(bitmap, to: folder.path("out.png"))
        }
    }

    #if os(Linux)
        @Test func devicesAreWrittenAndNotReplaced() throws {
            #expect(throws: ImageError.diskFull(path: "/dev/full", byteCount: try PNG.encode(bitmap).count)) {
                try PNG.write(bitmap, to: "/dev/full")
            }
            try PNG.write(bitmap, to: "/dev/null")
            for device in ["/dev/full", "/dev/null"] {
                let type = try FileManager.default.attributesOfItem(atPath: device)[.type] as? FileAttributeType
                #expect(type == .typeCharacterSpecial)
            }
            #expect(throws: ImageError.unreadable(path: "/dev/zero", reason: "not a file")) {
                try PNG.read("/dev/zero")
            }
        }

        /// `/proc` is the one place where even root can make no file.
        @Test func whatCannotBeMadeIsNamed() {
            let error = #expect(throws: ImageError.self) { try PNG.write(bitmap, to: "/proc/out.png") }
            #expect(error?.kind == "unwritable")
        }

        @Test(.enabled(if: SmallDisk.isAvailable, "mounting a small disk needs root"))
        func aFullDiskLosesNothing() throws {
            let disk = try SmallDisk(at: folder.url)
            defer { disk.unmount() }
            try PNG.write(bitmap, to: folder.path("out.png"))
            // Noise, so that it cannot be packed into what is left.
            var generator = SystemRandomNumberGenerator()
            let noise = (0..<200 * 200 * 3).map { _ in UInt8.random(in: 0...255, using: &generator) }
            let large = Bitmap(width: 200, height: 200, pixels: noise)
            let error = #expect(throws: ImageError.self) { try PNG.write(large, to: folder.path("out.png")) }
            #expect(error?.kind == "diskFull")
            #expect(try PNG.read(folder.path("out.png")).bitmap == bitmap)
            #expect(folder.contents == ["out.png"])
        }
    #endif
}

#if os(Linux)
    /// 64 KiB of memory as a disk.
    private struct SmallDisk {
        let folder: URL

        static let isAvailable: Bool = {
            guard geteuid() == 0, let folder = try? TemporaryFolder(), let disk = try? SmallDisk(at: folder.url) else {
                return false
            }
            disk.unmount()
            return true
        }()

        init(at folder: URL) throws {
            self.folder = folder
            guard mount("tmpfs", folder.path, "tmpfs", 0, "size=64k") == 0 else {
                throw POSIXError(POSIXErrorCode(rawValue: errno) ?? .EPERM)
            }
        }

        func unmount() { umount(folder.path) }
    }
#endif
