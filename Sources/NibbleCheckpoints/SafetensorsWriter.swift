internal import Foundation
public import NibbleTensors

/// A tensor that is going to be written.
public struct TensorDeclaration: Sendable, Hashable {
    /// Its name.
    public let name: String
    /// The type of its elements.
    public let dtype: DType
    /// Its extents.
    public let shape: Shape

    /// A tensor that is going to be written.
    public init(name: String, dtype: DType, shape: Shape) {
        self.name = name
        self.dtype = dtype
        self.shape = shape
    }

    /// The size of its data.
    public var byteCount: Int { shape.elementCount * dtype.byteSize }
}

/// Writes a safetensors file: first the list of tensors, then their data one at a time in any order, so that no more than
/// one of them has to be in memory.
///
/// Everything goes to a temporary file beside the target, which takes the target's name when it is complete and on the
/// disk. Until then, and whenever something fails, a file that was there before is untouched. A writer that is dropped
/// before `finish()` removes the temporary.
public final class SafetensorsWriter {
    /// In which order the tensors' data lie.
    public enum Order: Sendable {
        /// That of the reference implementation: larger elements first, then by name, so that every tensor is aligned to
        /// its elements.
        case standard
        /// That of the list; the first begins at a multiple of so many bytes, and so does whatever follows tensors whose
        /// sizes are multiples.
        case asListed(alignment: Int)
    }

    /// The tensors in the order of their data.
    public let declarations: [TensorDeclaration]

    private let path: String
    private let temporary: String
    private let descriptor: Int32
    private let positions: [String: (declaration: TensorDeclaration, offset: Int)]
    private var written: Set<String> = []
    private var isFinished = false

    /// Begins a file.
    ///
    /// - Parameters:
    ///   - path: the target; a file there is replaced at the end, a symbolic link too.
    ///   - tensors: all tensors; names must differ.
    ///   - metadata: the strings of `__metadata__`.
    ///   - order: of the tensors' data.
    /// - Throws: `CheckpointError.inaccessible` or `.diskFull`.
    public convenience init(
        _ path: String, tensors: [TensorDeclaration], metadata: [String: String] = [:], order: Order = .standard
    ) throws(CheckpointError) {
        try self.init(path, tensors: tensors, metadata: metadata, order: order) { temporary in
            open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o666)
        }
    }

    // `create` opens the temporary: tests pass a device that is always full.
    init(
        _ path: String, tensors: [TensorDeclaration], metadata: [String: String], order: Order = .standard,
        create: (String) -> Int32
    ) throws(CheckpointError) {
        // A device or a pipe must not be replaced by a file.
        if let type = try? FileManager.default.attributesOfItem(atPath: path)[.type] as? FileAttributeType,
            ![.typeRegular, .typeSymbolicLink].contains(type)
        {
            throw .inaccessible(path: path, reason: "it is there and not a regular file; name another")
        }
        declarations = order.applied(to: tensors)
        let header = Self.header(declarations, metadata, alignment: order.alignment)
        guard header.count <= SafetensorsHeader.maximumLength else {
            throw .malformed(path: path, reason: "\(tensors.count) tensors need too long a header")
        }
        var positions: [String: (declaration: TensorDeclaration, offset: Int)] = [:]
        var offset = SafetensorsHeader.prefixLength + header.count
        for tensor in declarations {
            let earlier = positions.updateValue((tensor, offset), forKey: tensor.name)
            precondition(earlier == nil, "'\(tensor.name)' is declared twice")
            offset += tensor.byteCount
        }
        self.positions = positions
        self.path = path
        temporary = "\(path.folderOfPath).nibble-\(String(UInt64.random(in: 0 ... .max), radix: 16)).part"
        let opened = create(temporary)
        guard opened >= 0 else { throw Self.failure(path, "create", errno) }
        descriptor = opened
        let start = Storage(byteCount: SafetensorsHeader.prefixLength + header.count)
        start.base.storeBytes(of: UInt64(header.count).littleEndian, as: UInt64.self)
        UnsafeMutableRawBufferPointer(start: start.base + SafetensorsHeader.prefixLength, count: header.count)
            .copyBytes(from: header)
        try put(UnsafeRawBufferPointer(start: start.base, count: start.byteCount), at: 0)
    }

    deinit {
        guard !isFinished else { return }
        close(descriptor)
        unlink(temporary)
    }

    /// Writes the data of a declared tensor.
    ///
    /// - Parameters:
    ///   - name: its name.
    ///   - tensor: its elements; shape and type as declared.
    /// - Throws: `CheckpointError.inaccessible` or `.diskFull`.
    public func write(_ name: String, _ tensor: Tensor) throws(CheckpointError) {
        guard let (declaration, start) = positions[name] else { preconditionFailure("'\(name)' was not declared") }
        precondition(
            tensor.shape == declaration.shape && tensor.dtype == declaration.dtype,
            "'\(name)' was declared as \(declaration.dtype.rawValue) \(declaration.shape)")
        if tensor.isContiguous {
            try put(tensor.bytes, at: start)
        } else {
            var offset = start
            for row in 0..<tensor.rows {
                let bytes = tensor.rows(row..<row + 1).bytes
                try put(bytes, at: offset)
                offset += bytes.count
            }
        }
        written.insert(name)
    }

    /// Puts the file in its place, once it is on the disk. Every declared tensor must have been written.
    ///
    /// - Throws: `CheckpointError.inaccessible` or `.diskFull`.
    public func finish() throws(CheckpointError) {
        precondition(!isFinished && written.count == declarations.count, "not all declared tensors were written")
        guard fsync(descriptor) == 0 else { throw Self.failure(path, "write", errno) }
        guard rename(temporary, path) == 0 else { throw Self.failure(path, "replace", errno) }
        isFinished = true
        close(descriptor)
        let folder = open(path.folderOfPath.isEmpty ? "." : path.folderOfPath, O_RDONLY | O_CLOEXEC)
        if folder >= 0 {
            fsync(folder)  // so that the new name survives a power cut too; not every file system can
            close(folder)
        }
    }

    private func put(_ bytes: UnsafeRawBufferPointer, at offset: Int) throws(CheckpointError) {
        guard let base = bytes.baseAddress else { return }
        var done = 0
        while done < bytes.count {
            let count = pwrite(descriptor, base + done, bytes.count - done, off_t(offset + done))
            if count > 0 {
                done += count
            } else if count == 0 || errno != EINTR {
                throw Self.failure(path, "write", count == 0 ? EIO : errno)
            }
        }
    }

    private static func failure(_ path: String, _ action: String, _ errno: Int32) -> CheckpointError {
        // EFBIG: the file system's largest file, or the limit of this process.
        [ENOSPC, EDQUOT, EFBIG].contains(errno)
            ? .diskFull(path: path)
            : .inaccessible(path: path, reason: "cannot \(action): \(CheckpointError.reason(errno))")
    }
}

extension SafetensorsWriter {
    /// Writes tensors that are all there.
    ///
    /// - Parameters:
    ///   - tensors: the tensors by name.
    ///   - path: the target; a file there is replaced at the end.
    ///   - metadata: the strings of `__metadata__`.
    /// - Throws: `CheckpointError.inaccessible` or `.diskFull`.
    public static func write(
        _ tensors: [String: Tensor], to path: String, metadata: [String: String] = [:]
    ) throws(CheckpointError) {
        let list = tensors.map { TensorDeclaration(name: $0, dtype: $1.dtype, shape: $1.shape) }
        let writer = try SafetensorsWriter(path, tensors: list, metadata: metadata)
        for (name, tensor) in tensors { try writer.write(name, tensor) }
        try writer.finish()
    }

    /// The JSON of a header, padded with spaces so that the data begins at a multiple of the alignment.
    private static func header(
        _ tensors: [TensorDeclaration], _ metadata: [String: String], alignment: Int
    ) -> [UInt8] {
        var members: [String] = []
        if !metadata.isEmpty {
            let strings = metadata.sorted { $0.key < $1.key }.map { "\(quoted($0)):\(quoted($1))" }
            members.append("\"__metadata__\":{\(strings.joined(separator: ","))}")
        }
        var offset = 0
        for tensor in tensors {
            let shape = tensor.shape.dimensions.map(String.init).joined(separator: ",")
            let offsets = "\(offset),\(offset + tensor.byteCount)"
            offset += tensor.byteCount
            members.append(
                "\(quoted(tensor.name)):{\"dtype\":\"\(tensor.dtype.rawValue)\",\"shape\":[\(shape)],"
                    + "\"data_offsets\":[\(offsets)]}")
        }
        var text = [UInt8]("{\(members.joined(separator: ","))}".utf8)
        let excess = (SafetensorsHeader.prefixLength + text.count) % alignment
        text += [UInt8](repeating: 0x20, count: (alignment - excess) % alignment)
        return text
    }

    /// A JSON string with the escapes that the reference implementation uses.
    private static func quoted(_ text: String) -> String {
        var result = "\""
        for scalar in text.unicodeScalars {
            switch scalar {
            case "\"": result += "\\\""
            case "\\": result += "\\\\"
            case "\u{8}": result += "\\b"
            case "\t": result += "\\t"
            case "\n": result += "\\n"
            case "\u{c}": result += "\\f"
            case "\r": result += "\\r"
            case "\0"..<" ": result += "\\u00" + (scalar.value < 16 ? "0" : "") + String(scalar.value, radix: 16)
            default: result.unicodeScalars.append(scalar)
            }
        }
        return result + "\""
    }
}

extension SafetensorsWriter.Order {
    /// What the data begin at a multiple of; in the reference implementation's files it is 8.
    fileprivate var alignment: Int {
        switch self {
        case .standard: 8
        case .asListed(let alignment): alignment
        }
    }

    fileprivate func applied(to tensors: [TensorDeclaration]) -> [TensorDeclaration] {
        guard case .standard = self else { return tensors }
        return tensors.sorted { left, right in
            let (leftRank, rightRank) = (left.dtype.orderInFile, right.dtype.orderInFile)
            return leftRank != rightRank
                ? leftRank < rightRank : left.name.utf8.lexicographicallyPrecedes(right.name.utf8)
        }
    }
}

extension DType {
    /// The place of its tensors in a file, as the reference implementation orders them.
    fileprivate var orderInFile: Int {
        switch self {
        case .uint64: 0
        case .int64: 1
        case .float64: 2
        case .float32: 3
        case .uint32: 4
        case .int32: 5
        case .bfloat16: 6
        case .float16: 7
        case .uint16: 8
        case .int16: 9
        case .float8E4M3: 10
        case .float8E5M2: 11
        case .int8: 12
        case .uint8: 13
        case .bool: 14
        }
    }
}
