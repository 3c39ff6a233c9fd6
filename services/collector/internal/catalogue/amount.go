package catalogue

import (
	"encoding/json"
	"fmt"
	"math"
	"math/bits"
	"strconv"

	"github.com/weir-metrics/weir/internal/bucket"
)

// amount adds up what Cloudflare reports. Integers are added exactly, in 64
// bits: a float64 loses single requests above 2^53, which a day of bytes of one
// large zone passes, and then the sum would depend on the order of the groups.
// Only the finished sum becomes a float64, rounded to nearest even, since that
// is what a Prometheus sample is.
type amount struct {
	whole uint64
	part  float64 // of numbers that are not integers
}

func (a *amount) add(b amount) error {
	sum, carry := bits.Add64(a.whole, b.whole, 0)
	if carry != 0 {
		return fmt.Errorf("sum of %d and %d does not fit into 64 bits", a.whole, b.whole)
	}
	a.whole, a.part = sum, a.part+b.part
	return nil
}

func (a amount) value() float64 { return float64(a.whole) + a.part }

// parseAmount reads one JSON number that is not negative.
func parseAmount(v any) (amount, error) {
	n, ok := v.(json.Number)
	if !ok {
		return amount{}, fmt.Errorf("is %s; it must be a number", kindOf(v))
	}
	if i, err := strconv.ParseInt(string(n), 10, 64); err == nil && i >= 0 {
		return amount{whole: uint64(i)}, nil
	}
	f, err := strconv.ParseFloat(string(n), 64)
	switch {
	case err != nil || math.IsInf(f, 0) || math.IsNaN(f):
		return amount{}, fmt.Errorf("is %q; it must be a finite number", bucket.Clip(string(n)))
	case f < 0:
		return amount{}, fmt.Errorf("is %s; it must not be negative", bucket.Clip(string(n)))
	case f >= 1<<63:
		// Nothing in one bucket is so many; stored, it would stay for ever.
		return amount{}, fmt.Errorf("is %s; no count reaches 2^63", bucket.Clip(string(n)))
	case f == math.Trunc(f): // "1e3", "12.0"
		return amount{whole: uint64(f)}, nil
	}
	return amount{part: f}, nil
}

// kindOf names a decoded JSON value's type for an error message.
func kindOf(v any) string {
	switch v.(type) {
	case nil:
		return "missing or null"
	case string:
		return "a string"
	case bool:
		return "a boolean"
	case []any:
		return "a list"
	case map[string]any:
		return "an object"
	case json.Number, float64:
		return "a number"
	}
	return fmt.Sprintf("a %T", v)
}
