import Foundation
import NibbleTensors
import NibbleTestSupport
import Testing

@testable import NibblePipelines

@Suite struct SchedulerTests {
    typealias Scheduler = FlowMatchEulerDiscreteScheduler

    struct Table: Decodable {
        struct Row: Decodable {
            let model: String
            let steps: Int
            let imageTokens: Int
            let mu: Double
            let timesteps: [Float]
            let sigmas: [Float]

            enum CodingKeys: String, CodingKey {
                case model, steps, mu, timesteps, sigmas
                case imageTokens = "image_seq_len"
            }
        }
        let rows: [Row]
    }

    static func decode(_ json: String) throws -> Scheduler {
        try Scheduler(JSONDecoder().decode(Scheduler.Configuration.self, from: Data(json.utf8)))
    }

    /// The configurations that black-forest-labs publishes with the two models of the table.
    static let published = [
        "FLUX.1-dev": """
        {"_class_name": "FlowMatchEulerDiscreteScheduler", "_diffusers_version": "0.30.0.dev0", "base_image_seq_len": 256,
         "base_shift": 0.5, "max_image_seq_len": 4096, "max_shift": 1.15, "num_train_timesteps": 1000, "shift": 3.0,
         "use_dynamic_shifting": true}
        """,
        "FLUX.1-schnell": """
        {"_class_name": "FlowMatchEulerDiscreteScheduler", "_diffusers_version": "0.30.0.dev0", "base_image_seq_len": 256,
         "base_shift": 0.5, "max_image_seq_len": 4096, "max_shift": 1.15, "num_train_timesteps": 1000, "shift": 1.0,
         "use_dynamic_shifting": false}
        """,
    ]

    @Test(
        .enabled(if: !Goldens.all("scheduler.json").isEmpty, "no golden root holds scheduler.json"),
        arguments: Goldens.all("scheduler.json"))
    func everyRowIsDiffusers(_ file: URL) throws {
        let table = try JSONDecoder().decode(Table.self, from: Data(contentsOf: file))
        #expect(!table.rows.isEmpty)
        for row in table.rows {
            let scheduler = try Self.decode(try #require(Self.published[row.model], "no configuration of \(row.model)"))
            let schedule = try scheduler.schedule(steps: row.steps, imageTokens: row.imageTokens)
            // Bit for bit: all is correctly rounded arithmetic in diffusers' order, but for one exponential in double
            // precision, whose last bit does not reach the 24 that are kept.
            #expect(schedule.sigmas == row.sigmas, "\(row.model), \(row.steps) steps, \(row.imageTokens) tokens")
            #expect(schedule.timesteps == row.timesteps, "\(row.model), \(row.steps) steps, \(row.imageTokens) tokens")
            #expect(scheduler.mu(imageTokens: row.imageTokens) == row.mu)
        }
    }

    @Test func modelFoldersScheduleAndStepsAreDiffusers() throws {
        for model in Goldens.fluxModels {
            let scheduler = try Scheduler(contentsOf: model.appending(path: "model/scheduler/scheduler_config.json"))
            let folder = model.appending(path: "golden")
            for file in try FileManager.default.contentsOfDirectory(atPath: folder.path)
            where file.hasPrefix("case_") && file.hasSuffix(".safetensors") {
                let golden = try GoldenTensors(folder.appending(path: file))
                let start = try golden.tensor("latents_init_packed")
                let predictions = try golden.tensor("noise_pred")
                let expected = try golden.tensor("latents")
                let steps = predictions.rows
                let schedule = try scheduler.schedule(steps: steps, imageTokens: start.shape[1])
                expectSameBits(schedule.sigmas, try golden.tensor("sigmas"), "\(file) sigmas")
                expectSameBits(schedule.timesteps, try golden.tensor("timesteps"), "\(file) timesteps")

                let latents = Tensor(zeros: start.shape, .float32)
                latents.mutableAddress.copyMemory(from: start.address, byteCount: start.bytes.count)
                for step in 0..<steps {
                    schedule.step(
                        step, prediction: predictions.rows(step..<step + 1).reshaped(start.shape), latents: latents)
                    // Bit for bit: torch rounds the product and the sum, as here.
                    #expect(
                        latents.bytes.elementsEqual(expected.rows(step..<step + 1).bytes), "\(file), after step \(step)"
                    )
                }
            }
        }
    }

    @Test func otherShifts() throws {
        // numpy 2, with diffusers' expressions: sigmas = float32(linspace(1, 1/4, 4)).
        let still = try Self.decode(#"{"shift": 3.0}"#).schedule(steps: 4, imageTokens: 64)
        #expect(still.sigmas == [1, 0.899_999_976_158_142_1, 0.75, 0.5, 0])
        let linear = try Self.decode(#"{"use_dynamic_shifting": true, "time_shift_type": "linear"}"#)
            .schedule(steps: 4, imageTokens: 4096)
        #expect(linear.sigmas == [1, 0.775_280_892_848_968_5, 0.534_883_677_959_442_1, 0.277_108_430_862_426_76, 0])
    }

    @Test func defaultsAreDiffusers() throws {
        #expect(try Self.decode("{}").configuration == Scheduler.Configuration())
        #expect(try Self.decode(#"{"shift_terminal": null, "use_karras_sigmas": false}"#).configuration == .init())
    }

    @Test(arguments: [
        ("_class_name", #""EulerDiscreteScheduler""#), ("shift_terminal", "0.02"), ("use_karras_sigmas", "true"),
        ("use_exponential_sigmas", "true"), ("use_beta_sigmas", "true"), ("invert_sigmas", "true"),
        ("stochastic_sampling", "true"), ("time_shift_type", #""cubic""#),
    ])
    func whatIsNotBuiltIsRefusedByName(_ key: String, _ value: String) throws {
        let expected = SchedulerError.unsupported(key: key, value: value.trimmingCharacters(in: ["\""]))
        #expect(throws: expected) { try Self.decode("{\"\(key)\": \(value)}") }
    }

    @Test(arguments: [
        ("num_train_timesteps", "0"), ("num_train_timesteps", "-5"), ("shift", "0"), ("shift", "-1"),
    ])
    func senselessNumbersAreRefusedByName(_ key: String, _ value: String) throws {
        let error = #expect(throws: SchedulerError.self) { try Self.decode("{\"\(key)\": \(value)}") }
        guard case .invalid(key, _, _) = error else {
            Issue.record("\(String(describing: error))")
            return
        }
    }

    @Test(arguments: [
        "", "[]", #"{"shift": "three"}"#, #"{"num_train_timesteps": 1e300}"#, #"{"shift": 1e999}"#,
        #"{"use_karras_sigmas": 3}"#, String(repeating: "[", count: 100_000),
    ])
    func filesThatAreNoConfiguration(_ json: String) throws {
        let file = FileManager.default.temporaryDirectory.appending(path: "scheduler-\(UUID()).json")
        try Data(json.utf8).write(to: file)
        defer { try? FileManager.default.removeItem(at: file) }
        let error = #expect(throws: SchedulerError.self) { try Scheduler(contentsOf: file) }
        guard case .unreadable(file.path, _) = error else {
            Issue.record("\(String(describing: error))")
            return
        }
    }

    @Test func hostileRequests() throws {
        let dynamic = try Self.decode(#"{"use_dynamic_shifting": true}"#)
        for steps in [0, -1, Int.min, Scheduler.stepLimit + 1, Int.max] {
            #expect(throws: SchedulerError.stepsOutOfRange(steps, limit: Scheduler.stepLimit)) {
                try dynamic.schedule(steps: steps, imageTokens: 64)
            }
        }
        #expect(throws: SchedulerError.notFinite(imageTokens: .max)) {
            try dynamic.schedule(steps: 2, imageTokens: .max)
        }
        #expect(throws: SchedulerError.self) {
            try Self.decode(
                #"{"use_dynamic_shifting": true, "base_image_seq_len": 7, "max_image_seq_len": 7}"#)
        }
        let wide =
            #"{"use_dynamic_shifting": true, "base_image_seq_len": \#(Int.min), "max_image_seq_len": \#(Int.max)}"#
        #expect(try Self.decode(wide).schedule(steps: 3, imageTokens: 64).sigmas.allSatisfy(\.isFinite))
    }
}
