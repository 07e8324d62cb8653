internal import NibbleCheckpoints
internal import NibbleTensors

extension AutoencoderConfig {
    /// diffusers' `Decoder`, after `post_quant_conv` where there is one.
    ///
    /// - Parameter weights: a reader of the whole autoencoder.
    /// - Returns: the layers in order.
    /// - Throws: what is wrong with a tensor.
    /// - Returns: the layers, in the order in which they run.
    /// - Throws: `CheckpointError`, for a tensor that is missing or of another shape.
    func decoderLayers(_ weights: WeightReader) throws(CheckpointError) -> [NamedLayer] {
        var layers: [NamedLayer] = []
        if usePostQuantConv {
            layers.append(
                .init(
                    .convolution(
                        try Convolution(
                            weights["post_quant_conv"], input: latentChannels, output: latentChannels,
                            geometry: .pointwise))))
        }
        let reader = weights["decoder"]
        let channels = Array(blockOutChannels.reversed())
        let first = try Convolution(
            reader["conv_in"], input: latentChannels, output: channels[0], geometry: .same)
        layers.append(.init(.convolution(first), "vae_dec.conv_in"))
        layers += try middle(reader["mid_block"], channels: channels[0], observedAs: "vae_dec")
        for (index, output) in channels.enumerated() {
            let block = reader["up_blocks", index]
            let isLast = index == channels.count - 1
            let name = "vae_dec.up_block.\(index)"
            for layer in 0...layersPerBlock {
                let input = layer == 0 ? channels[max(index - 1, 0)] : output
                let resnet = try ResnetBlock(
                    block["resnets", layer], input: input, output: output, groups: normNumGroups)
                layers.append(.init(.resnet(resnet), isLast && layer == layersPerBlock ? name : nil))
            }
            if isLast { continue }
            let doubling = try Convolution(
                block["upsamplers", 0]["conv"], input: output, output: output, geometry: .same)
            layers.append(.init(.doubling(doubling), name))
        }
        return layers + [
            try output(reader, input: blockOutChannels[0], output: Self.pictureChannels, observedAs: "vae_dec")
        ]
    }

    /// diffusers' `Encoder`, with `quant_conv` behind it where there is one.
    ///
    /// - Parameter weights: a reader of the whole autoencoder.
    /// - Returns: the layers in order.
    /// - Throws: what is wrong with a tensor.
    /// - Returns: the layers, in the order in which they run.
    /// - Throws: `CheckpointError`, for a tensor that is missing or of another shape.
    func encoderLayers(_ weights: WeightReader) throws(CheckpointError) -> [NamedLayer] {
        let reader = weights["encoder"]
        let channels = blockOutChannels
        let first = try Convolution(
            reader["conv_in"], input: Self.pictureChannels, output: channels[0], geometry: .same)
        var layers = [NamedLayer(.convolution(first), "vae_enc.conv_in")]
        for (index, output) in channels.enumerated() {
            let block = reader["down_blocks", index]
            let isLast = index == channels.count - 1
            let name = "vae_enc.down_block.\(index)"
            for layer in 0..<layersPerBlock {
                let input = layer == 0 ? channels[max(index - 1, 0)] : output
                let resnet = try ResnetBlock(
                    block["resnets", layer], input: input, output: output, groups: normNumGroups)
                layers.append(.init(.resnet(resnet), isLast && layer == layersPerBlock - 1 ? name : nil))
            }
            if isLast { continue }
            let halving = try Convolution(
                block["downsamplers", 0]["conv"], input: output, output: output, geometry: .halving)
            layers.append(.init(.convolution(halving), name))
        }
        let deepest = channels[channels.count - 1]
        layers += try middle(reader["mid_block"], channels: deepest, observedAs: "vae_enc")
        layers.append(try output(reader, input: deepest, output: 2 * latentChannels, observedAs: "vae_enc"))
        if useQuantConv {
            let last = try Convolution(
                weights["quant_conv"], input: 2 * latentChannels, output: 2 * latentChannels, geometry: .pointwise)
            layers.append(.init(.convolution(last)))
        }
        return layers
    }

    private func middle(
        _ weights: WeightReader, channels: Int, observedAs name: String
    ) throws(CheckpointError) -> [NamedLayer] {
        func resnet(_ index: Int) throws(CheckpointError) -> FeatureLayer {
            .resnet(
                try ResnetBlock(weights["resnets", index], input: channels, output: channels, groups: normNumGroups))
        }
        var layers = [NamedLayer(try resnet(0), "\(name).mid_resnet0")]
        if midBlockAddAttention {
            let attention = try PixelAttention(
                weights["attentions", 0], channels: channels, groups: normNumGroups)
            layers.append(.init(.attention(attention), "\(name).mid_attn"))
        }
        return layers + [.init(try resnet(1), "\(name).mid_block")]
    }

    private func output(
        _ weights: WeightReader, input: Int, output: Int, observedAs name: String
    ) throws(CheckpointError) -> NamedLayer {
        .init(
            .output(
                try GroupNorm(weights["conv_norm_out"], channels: input, groups: normNumGroups, epsilon: 1e-6),
                try Convolution(weights["conv_out"], input: input, output: output, geometry: .same),
                observedAs: "\(name).conv_norm_out"))
    }
}
