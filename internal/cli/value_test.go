package cli

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestParseDuration(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"300": 300 * time.Second, "300s": 300 * time.Second, "5m": 5 * time.Minute, "2h30m": 150 * time.Minute, "400d": 400 * day,
		"1w2d": 9 * day, "1.5h": 90 * time.Minute, "0": 0, "-5m": -5 * time.Minute, " 5m ": 5 * time.Minute, "250ms": 250 * time.Millisecond,
	} {
		if got, err := ParseDuration(text); err != nil || got != want {
			t.Errorf("%q: got %v, error %v, want %v", text, got, err, want)
		}
	}
	for _, text := range []string{"", "-", "m", "5", "5x", "d", "1.5d", "5m-3s", "h5", "99999999999999", "200000d200000d", "5 m"} {
		if text == "5" {
			continue // fine, and five seconds
		}
		if got, err := ParseDuration(text); err == nil {
			t.Errorf("%q: got %v, want an error", text, got)
		}
	}
}

func FuzzParseDuration(f *testing.F) {
	for _, seed := range []string{"300", "400d", "2h30m", "-1w", "1.5h", "9223372036s"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		d, err := ParseDuration(text)
		if err != nil {
			return
		}
		if again, err := ParseDuration(FormatDuration(d)); err != nil || again != d {
			t.Errorf("%q is %v, written as %q, read as %v, error %v", text, d, FormatDuration(d), again, err)
		}
	})
}

func TestFormatDuration(t *testing.T) {
	for want, d := range map[string]time.Duration{
		"5m": 5 * time.Minute, "2h30m": 150 * time.Minute, "24h": day, "400d": 400 * day, "36h": 36 * time.Hour, "1m30s": 90 * time.Second, "0s": 0, "10m": 10 * time.Minute, "20h": 20 * time.Hour,
	} {
		if got := FormatDuration(d); got != want {
			t.Errorf("%v is written %q, want %q", d, got, want)
		}
	}
}

// TestValuesRoundTrip: what String returns, Set accepts and stores the same.
func TestValuesRoundTrip(t *testing.T) {
	var (
		b     bool
		n     int64
		share float64
		at    time.Time
		word  string
		addr  string
		link  string
		lst   []string
		d     time.Duration
		log   Log
	)
	Defaults(log.Settings())
	for _, test := range []struct {
		value     Value
		good, bad []string
	}{
		{Bool(&b), []string{"true", "false", "1"}, []string{"", "yes"}},
		{Int(&n, -3, 1<<40), []string{"-3", "0", "1099511627776"}, []string{"", "-4", "1.5", "0x10", "1e3"}},
		{Share(&share, 0.01, 1), []string{"50%", "0.5", "1", "12.5%"}, []string{"", "0", "101%", "NaN", "half"}},
		{Time(&at), []string{"2026-11-01", "2026-11-01T15:04:05Z", "2026-11-01T15:04:05+02:00"}, []string{"", "now", "2026-13-01"}},
		{Enum(&word, "end", "start"), []string{"end", "start"}, []string{"", "END", "en"}},
		{Address(&addr), []string{":9810", "127.0.0.1:9820", "[::1]:0", ""}, []string{"9810", "a:b", "a:99999"}},
		{URL(&link, "postgres", "postgresql"), []string{"postgres://h:1/d", ""}, []string{"http://h/", "h", "postgres:"}},
		{URLs(&lst, "http"), []string{"http://h:1", "http://h, http://[::1]:9810/x", ""}, []string{"http://h,https://h", "h", "http://u:p@h", "http://h/?a=b", "http://u:%zz@h"}},
		{List(&lst), []string{"a", "a, b ,c", "", `"Acme, Inc." , b`, `"say ""hi"""`, `a "b" c`}, []string{"a,,b", ",", `"a`, `"a"b`, `"",a`, "a,"}},
		{Duration(&d, time.Second, day), []string{"1s", "86400", "1d"}, []string{"", "0", "25h", "-1s"}},
		{level(&log.Level), []string{"debug", "WARN"}, []string{"", "loud"}},
	} {
		for _, text := range test.good {
			if err := test.value.Set(text); err != nil {
				t.Errorf("%T %q: %v", test.value, text, err)
				continue
			}
			written := test.value.String()
			if err := test.value.Set(written); err != nil || test.value.String() != written {
				t.Errorf("%T: %q is written %q, and that %q, error %v", test.value, text, written, test.value.String(), err)
			}
		}
		for _, text := range test.bad {
			before := test.value.String()
			if err := test.value.Set(text); err == nil {
				t.Errorf("%T accepts %q; allowed is %s", test.value, text, test.value.Allowed())
			}
			if diff := cmp.Diff(before, test.value.String()); diff != "" {
				t.Errorf("%T: the refused %q changed the field:\n%s", test.value, text, diff)
			}
		}
	}
}

func TestServiceLink(t *testing.T) {
	for name, value := range map[string]string{
		"WEIR_SERVICE_HOST": "10.0.0.1", "WEIR_COLLECTOR_SERVICE_PORT": "9820", "WEIR_COLLECTOR_SERVICE_PORT_GRPC": "9820",
		"WEIR_PORT": "tcp://10.0.0.1:9810", "WEIR_COLLECTOR_PORT_9820_TCP": "tcp://10.0.0.1:9820", "WEIR_COLLECTOR_PORT_9820_TCP_ADDR": "10.0.0.1",
	} {
		if !serviceLink(name, value) {
			t.Errorf("%s=%s is not taken for a service link", name, value)
		}
	}
	for name, value := range map[string]string{"WEIR_PORT": "9810", "WEIR_RETENTION": "tcp://x", "WEIR_PORT_9810": "x"} {
		if serviceLink(name, value) {
			t.Errorf("%s=%s is taken for a service link", name, value)
		}
	}
}

func TestNearest(t *testing.T) {
	known := []string{"WEIR_RETENTION", "WEIR_LOG_LEVEL", "CF_ZONES"}
	for name, want := range map[string]string{"WEIR_RETENTOIN": "WEIR_RETENTION", "WEIR_LOGLEVEL": "WEIR_LOG_LEVEL", "CF_ZONE": "CF_ZONES", "CF_API_KEY": "", "WEIR_X": ""} {
		if got := nearest(name, known, 2); got != want {
			t.Errorf("nearest to %s is %q, want %q", name, got, want)
		}
	}
}
