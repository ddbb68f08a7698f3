"""Images moved towards the source: moments (Reinhard et al. 2001), and low frequencies (Yang & Soatto 2020)."""

import numpy as np

EDGES = np.array([0, 1, 2, 3, 4, 6, 8]) / 64  # cycles per pixel


def moved_moments(x, body, means, stds, share):
    """Each channel of ``x`` ``(1, C, H, W)``, inside the body."""
    out = x.copy()
    for c, (mean, std) in enumerate(zip(means, stds, strict=True)):
        inside = x[0, c][body[0, 0]]
        m, s = inside.mean(), inside.std()
        out[0, c][body[0, 0]] = (inside - m) / s * ((1 - share) * s + share * std) + (1 - share) * m + share * mean
    return out


def moved_amplitudes(x, body, amplitudes, share):
    """Multiply each frequency of a channel by the ratio of the source's amplitude to its own, to the power of the share."""
    out = x.copy()
    fy, fx = np.meshgrid(np.fft.fftfreq(x.shape[2]), np.fft.fftfreq(x.shape[3]), indexing="ij")
    f = np.sqrt(fy**2 + fx**2)
    for c, wanted in enumerate(amplitudes):
        m = x[0, c][body[0, 0]].mean()
        z = np.where(body[0, 0], x[0, c] - m, 0)
        spectrum = np.fft.fft2(z)
        knots = [(0.0, 1.0), (EDGES[-1], 1.0)]
        for low, high, there in zip(EDGES[:-1], EDGES[1:], wanted, strict=True):
            ring = (f > low) & (f <= high)
            if ring.any():
                knots.append(((low + high) / 2, (there / (np.abs(spectrum[ring]).mean() / np.sqrt(z.size))) ** share))
        where, factor = np.array(sorted(knots)).T
        moved = np.fft.ifft2(spectrum * np.where(f > 0, np.interp(f, where, factor), 1)).real
        out[0, c][body[0, 0]] = (moved + m)[body[0, 0]]
    return out
