package cli

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// An element is one element, whatever is in it: an account may be called
// "Acme, Inc.".
func TestListElementsWithCommas(t *testing.T) {
	want := []string{"Acme, Inc.", `"Best" & Co`, "b.example"}
	for name, src := range map[string]Sources{
		"file":         {Args: []string{"--config", write(t, "weir.yaml", "cf_zones:\n- Acme, Inc.\n- '\"Best\" & Co'\n-  b.example\n")}},
		"flow":         {Args: []string{"--config", write(t, "weir.yaml", `cf_zones: ["Acme, Inc.", '"Best" & Co', b.example]`)}},
		"environment":  {Environ: []string{`CF_ZONES="Acme, Inc.", """Best"" & Co",b.example`}},
		"flag":         {Args: []string{`--cf-zones="Acme, Inc."`, `--cf-zones="""Best"" & Co", b.example`}},
		"text in file": {Args: []string{"--config", write(t, "weir.yaml", `cf_zones: '"Acme, Inc.","""Best"" & Co",b.example'`)}},
	} {
		var c config
		src.Environ = append(src.Environ, "CF_API_TOKEN=t")
		if _, err := c.load(t, src); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if diff := cmp.Diff(want, c.Zones); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
	for _, text := range []string{"cf_zones:\n- a\n- ''\n", "cf_zones:\n- [a, b]\n", "cf_zones:\n- {a: b}\n", "cf_delay_seconds: [900]\n"} {
		var c config
		_, err := c.load(t, Sources{Args: []string{"--config", write(t, "weir.yaml", text)}, Environ: []string{"CF_API_TOKEN=t"}})
		if err == nil || !strings.Contains(err.Error(), "weir.yaml:") {
			t.Errorf("%q: error %v; it must name the place", text, err)
		}
	}
}

// A URL that is refused may have a password, also where it cannot be parsed.
func TestURLsThatAreRefusedAreNotShown(t *testing.T) {
	for _, text := range []string{"http://u:p4ss@h", "http://u:p4%zzss@h", "http://u:p4ss@[::1", "u:p4ss@h", "http://h,http://h/?token=p4ss", "http://h#p4ss"} {
		var list []string
		_, err := Load([]Setting{{Env: "WEIR_EXPOSER_URLS", Help: "URLs", Value: URLs(&list, "http")}}, Sources{Environ: []string{"WEIR_EXPOSER_URLS=" + text}}, nil)
		if err == nil || strings.Contains(err.Error(), "p4") || !strings.Contains(err.Error(), "WEIR_EXPOSER_URLS") || !strings.Contains(err.Error(), "without user") {
			t.Errorf("%s: error %v; it must name the setting and what is right, and not show the secret", text, err)
		}
	}
}
