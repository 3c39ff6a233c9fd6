package traffic

import "math"

// Hash mixes any number of words into one that looks random. It is the only
// source of chance in the model: equal inputs give equal traffic on every
// machine and in every process, which a shared generator could not promise to
// concurrent readers.
func Hash(words ...uint64) uint64 {
	h := uint64(0x9e3779b97f4a7c15)
	for _, w := range words {
		h = mix(h ^ w)
	}
	return h
}

// HashString is FNV-1a, finished like [Hash], for names that take part in it.
func HashString(s string) uint64 {
	h := uint64(14695981039346656037)
	for i := range len(s) {
		h = (h ^ uint64(s[i])) * 1099511628211
	}
	return mix(h)
}

// mix is the finaliser of splitmix64.
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9
	x = (x ^ (x >> 27)) * 0x94d049bb133111eb
	return x ^ (x >> 31)
}

// Unit maps a hash to [0, 1).
func Unit(h uint64) float64 { return float64(h>>11) / (1 << 53) }

// normal maps a hash to a standard normal value, cut at four deviations so
// that no minute becomes negative or absurd by chance.
func normal(h uint64) float64 {
	u := max(Unit(h), 1e-9)
	v := Unit(mix(h))
	return min(max(math.Sqrt(-2*math.Log(u))*math.Cos(2*math.Pi*v), -4), 4)
}
