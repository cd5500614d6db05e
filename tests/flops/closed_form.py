"""The paper's count of ResNet50 as a sum over layer shapes: written from the architecture, sharing
no code with the package.
"""

STAGES = ((64, 3, 256), (128, 4, 512), (256, 6, 1024), (512, 3, 2048))


def resnet50(side, *, whitened=(), group=16, extra=3, segmentation=False):
    """FLOPs of one `side`×`side` image. `whitened` convolutions cost 2·group + `extra` per element
    and group³ per matrix.
    """
    total, index = 0, 0

    def norm(channels, pixels, numbered=True):
        nonlocal total, index
        index += numbered
        if numbered and index in whitened:
            total += (2 * group + extra) * channels * pixels + channels // group * group**3
        else:
            total += 4 * channels * pixels

    def half(n):
        return -(-n // 2)

    side_now = half(side)
    total += 7 * 7 * 3 * 64 * side_now**2
    norm(64, side_now**2)
    side_now = half(side_now)
    total += 9 * 64 * side_now**2  # max pooling
    inputs = 64
    for stage, (width, blocks, outputs) in enumerate(STAGES):
        for block in range(blocks):
            before = side_now**2
            if block == 0 and stage > 0 and not (segmentation and stage > 1):
                side_now = half(side_now)
            after = side_now**2
            total += inputs * width * before
            norm(width, before)
            total += 9 * width * width * after
            norm(width, after)
            total += width * outputs * after
            norm(outputs, after)
            if block == 0:
                total += inputs * outputs * after
                norm(outputs, after, numbered=False)
            total += outputs * after  # the sum with the shortcut
            inputs = outputs
    pixels = side_now**2
    if segmentation:
        return total + 9 * 2048 * 512 * pixels + 4 * 512 * pixels + 512 * 19 * pixels
    return total + 2048 * pixels + 2 * 2048 * 1000
