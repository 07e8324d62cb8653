extension FlowMatchEulerDiscreteScheduler {
    /// `scheduler_config.json`, with diffusers' defaults for what is not in it.
    public struct Configuration: Sendable, Equatable {
        /// How `mu` becomes the weight of a dynamic shift.
        public enum TimeShift: String, Sendable {
            /// The weight is e to the power of mu.
            case exponential
            /// The weight is mu.
            case linear
        }

        /// `num_train_timesteps`: the timestep of sigma 1.
        public var trainTimesteps = 1000
        /// `shift`: the weight of the shift without dynamic shifting.
        public var shift = 1.0
        /// `use_dynamic_shifting`: whether the shift depends on the picture's size.
        public var usesDynamicShifting = false
        /// `base_shift`: mu of a picture of `baseImageTokens`.
        public var baseShift = 0.5
        /// `max_shift`: mu of a picture of `maxImageTokens`.
        public var maxShift = 1.15
        /// `base_image_seq_len`.
        public var baseImageTokens = 256
        /// `max_image_seq_len`.
        public var maxImageTokens = 4096
        /// `time_shift_type`.
        public var timeShift = TimeShift.exponential

        /// Keys of the file that ask for what is not built, with their values.
        private var unsupported: [String: String] = [:]

        /// diffusers' defaults.
        public init() {}

        /// Throws what would keep a schedule from being computed.
        func check() throws(SchedulerError) {
            if let (key, value) = unsupported.min(by: { $0.key < $1.key }) {
                throw .unsupported(key: key, value: value)
            }
            guard trainTimesteps > 0 else {
                throw .invalid(key: "num_train_timesteps", value: "\(trainTimesteps)", expected: "at least 1")
            }
            guard shift.isFinite, shift > 0 else {
                throw .invalid(key: "shift", value: "\(shift)", expected: "a positive number")
            }
            guard baseImageTokens != maxImageTokens || !usesDynamicShifting else {
                throw .invalid(
                    key: "max_image_seq_len", value: "\(maxImageTokens)", expected: "another than base_image_seq_len")
            }
        }
    }
}

extension FlowMatchEulerDiscreteScheduler.Configuration: Decodable {
    private enum Key: String, CodingKey {
        case className = "_class_name"
        case trainTimesteps = "num_train_timesteps"
        case shift
        case usesDynamicShifting = "use_dynamic_shifting"
        case baseShift = "base_shift"
        case maxShift = "max_shift"
        case baseImageTokens = "base_image_seq_len"
        case maxImageTokens = "max_image_seq_len"
        case timeShift = "time_shift_type"
        case shiftTerminal = "shift_terminal"
        case invertSigmas = "invert_sigmas"
        case usesKarrasSigmas = "use_karras_sigmas"
        case usesExponentialSigmas = "use_exponential_sigmas"
        case usesBetaSigmas = "use_beta_sigmas"
        case stochasticSampling = "stochastic_sampling"
    }

    /// Reads the keys that matter. What is not built is kept in mind and refused when a scheduler is made of it.
    public init(from decoder: any Decoder) throws {
        self.init()
        let container = try decoder.container(keyedBy: Key.self)
        func read<Value: Decodable>(_ key: Key, into value: inout Value) throws {
            value = try container.decodeIfPresent(Value.self, forKey: key) ?? value
        }
        try read(.trainTimesteps, into: &trainTimesteps)
        try read(.shift, into: &shift)
        try read(.usesDynamicShifting, into: &usesDynamicShifting)
        try read(.baseShift, into: &baseShift)
        try read(.maxShift, into: &maxShift)
        try read(.baseImageTokens, into: &baseImageTokens)
        try read(.maxImageTokens, into: &maxImageTokens)

        if let name = try container.decodeIfPresent(String.self, forKey: .timeShift) {
            if let known = TimeShift(rawValue: name) {
                timeShift = known
            } else {
                unsupported[Key.timeShift.rawValue] = name
            }
        }
        if let name = try container.decodeIfPresent(String.self, forKey: .className),
            name != "FlowMatchEulerDiscreteScheduler"
        {
            unsupported[Key.className.rawValue] = name
        }
        // diffusers takes a terminal shift of 0 for none.
        if let terminal = try container.decodeIfPresent(Double.self, forKey: .shiftTerminal), terminal != 0 {
            unsupported[Key.shiftTerminal.rawValue] = "\(terminal)"
        }
        for key in [
            Key.invertSigmas, .usesKarrasSigmas, .usesExponentialSigmas, .usesBetaSigmas, .stochasticSampling,
        ] where try container.decodeIfPresent(Bool.self, forKey: key) == true {
            unsupported[key.rawValue] = "true"
        }
    }
}
