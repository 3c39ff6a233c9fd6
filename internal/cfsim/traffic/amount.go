package traffic

import "math/bits"

// Amount is what one template contributed to one span of time. All fields are
// sums and may be added.
type Amount struct {
	Requests     uint64 // requests, or events
	Bytes        uint64 // sent to the client
	RequestBytes uint64 // received from the client
	Visits       uint64 // requests that came from another site
	FirstByteMs  uint64 // sum of time to first byte at the edge; of a Worker, CPU time in µs
	OriginMs     uint64 // sum of the origin's response times, 0 for cached; of a Worker, wall time in µs
}

// Add adds b to a.
func (a *Amount) Add(b Amount) {
	a.Requests += b.Requests
	a.Bytes += b.Bytes
	a.RequestBytes += b.RequestBytes
	a.Visits += b.Visits
	a.FirstByteMs += b.FirstByteMs
	a.OriginMs += b.OriginMs
}

// Sub takes b, which must be part of a, from a.
func (a *Amount) Sub(b Amount) {
	a.Requests -= b.Requests
	a.Bytes -= b.Bytes
	a.RequestBytes -= b.RequestBytes
	a.Visits -= b.Visits
	a.FirstByteMs -= b.FirstByteMs
	a.OriginMs -= b.OriginMs
}

// Scale is a with every sum multiplied by f and rounded down. 1 gives exactly
// a, at any size.
func (a Amount) Scale(f float64) Amount {
	if f == 1 {
		return a
	}
	scale := func(n uint64) uint64 { return uint64(float64(n) * f) }
	return Amount{
		Requests: scale(a.Requests), Bytes: scale(a.Bytes), RequestBytes: scale(a.RequestBytes),
		Visits: scale(a.Visits), FirstByteMs: scale(a.FirstByteMs), OriginMs: scale(a.OriginMs),
	}
}

// WithRequests is a as if only n of its requests had happened: the other sums
// keep their proportion, rounded down. n of a's own size gives exactly a.
func (a Amount) WithRequests(n uint64) Amount {
	if n == a.Requests || a.Requests == 0 {
		return a
	}
	part := func(sum uint64) uint64 {
		hi, lo := bits.Mul64(sum, n)
		if hi >= a.Requests { // more than 2^64: only for a forged amount
			return sum
		}
		q, _ := bits.Div64(hi, lo, a.Requests)
		return q
	}
	return Amount{
		Requests: n, Bytes: part(a.Bytes), RequestBytes: part(a.RequestBytes),
		Visits: part(a.Visits), FirstByteMs: part(a.FirstByteMs), OriginMs: part(a.OriginMs),
	}
}

// Until is what of a, the amount of one whole minute, happened before second
// s of it (0 to 60). Until(0) is nothing and Until(60) is a, so differences
// cut a minute into parts that add up. phase (any value) spreads the few
// requests of small amounts over different seconds.
func (a Amount) Until(s int, phase uint64) Amount {
	n := (a.Requests*uint64(s) + phase%60) / 60
	if n == 0 {
		return Amount{}
	}
	return a.WithRequests(n)
}
