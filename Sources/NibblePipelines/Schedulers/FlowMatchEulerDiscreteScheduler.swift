public import Foundation

/// The scheduler of FLUX.1: a rectified flow followed by Euler steps, with the numbers of diffusers' class of the same
/// name (0.42) as `FluxPipeline` calls it.
///
/// The flow is that of Esser et al., "Scaling Rectified Flow Transformers for High-Resolution Image Synthesis" (2024);
/// the shift of its sigmas that grows with the picture is their section 5.3.2.
public struct FlowMatchEulerDiscreteScheduler: Sendable {
    /// Most steps of a schedule: far past any use, so that a slip of the finger is told and not computed.
    public static let stepLimit = 10_000

    /// What `scheduler_config.json` says.
    public let configuration: Configuration

    /// A scheduler of a configuration.
    ///
    /// - Parameter configuration: what `scheduler_config.json` says.
    /// - Throws: `SchedulerError.unsupported` naming the key that asks for what is not built, `.invalid` where a number
    ///   makes no sense.
    public init(_ configuration: Configuration) throws(SchedulerError) {
        try configuration.check()
        self.configuration = configuration
    }

    /// A scheduler of a model folder's `scheduler_config.json`.
    ///
    /// - Parameter file: the file.
    /// - Throws: `SchedulerError.unreadable` where it is missing or no such JSON, and what `init(_:)` throws.
    public init(contentsOf file: URL) throws(SchedulerError) {
        let configuration: Configuration
        do {
            configuration = try JSONDecoder().decode(Configuration.self, from: Data(contentsOf: file))
        } catch {
            throw .unreadable(path: file.path, reason: oneLine(error))
        }
        try self.init(configuration)
    }

    /// The shift exponent of a picture: a line through `base_shift` at `base_image_seq_len` tokens and `max_shift` at
    /// `max_image_seq_len`, in double precision.
    ///
    /// - Parameter imageTokens: latent patches, that is, width / 16 times height / 16.
    /// - Returns: the exponent; diffusers calls it so too.
    public func mu(imageTokens: Int) -> Double {
        let slope =
            (configuration.maxShift - configuration.baseShift)
            / (Double(configuration.maxImageTokens) - Double(configuration.baseImageTokens))
        let offset = configuration.baseShift - slope * Double(configuration.baseImageTokens)
        return Double(imageTokens) * slope + offset
    }

    /// The sigmas and timesteps of one picture.
    ///
    /// - Parameters:
    ///   - steps: Euler steps, 1 to `stepLimit`.
    ///   - imageTokens: latent patches; without dynamic shifting it does not matter.
    /// - Returns: one sigma more than steps, and one timestep for each step.
    /// - Throws: `SchedulerError.stepsOutOfRange`; `.notFinite` where a shift is past what 32-bit floats hold.
    public func schedule(steps: Int, imageTokens: Int) throws(SchedulerError) -> NoiseSchedule {
        guard (1...Self.stepLimit).contains(steps) else {
            throw .stepsOutOfRange(steps, limit: Self.stepLimit)
        }
        let shifted = uniformSigmas(steps: steps).map { shift($0, imageTokens: imageTokens) }
        guard shifted.allSatisfy(\.isFinite) else { throw .notFinite(imageTokens: imageTokens) }
        return NoiseSchedule(
            sigmas: shifted + [0], timesteps: shifted.map { $0 * Float(configuration.trainTimesteps) })
    }

    /// `numpy.linspace(1, 1 / steps, steps)` in its order of operations, then rounded to 32 bits.
    private func uniformSigmas(steps: Int) -> [Float] {
        let last = 1 / Double(steps)
        let spacing = (last - 1) / Double(steps - 1)
        return (0..<steps).map { index in
            index == 0 ? 1 : index == steps - 1 ? Float(last) : Float(Double(index) * spacing + 1)
        }
    }

    /// One sigma after its shift. diffusers mixes 32-bit arrays with Python numbers: the numbers are rounded to 32 bits
    /// at the operation, after what Python computes among them in double precision.
    private func shift(_ sigma: Float, imageTokens: Int) -> Float {
        guard configuration.usesDynamicShifting else {
            return Float(configuration.shift) * sigma / (1 + Float(configuration.shift - 1) * sigma)
        }
        let mu = mu(imageTokens: imageTokens)
        let weight = Float(configuration.timeShift == .exponential ? exp(mu) : mu)
        return weight / (weight + (1 / sigma - 1))
    }
}
