package catalogue

import (
	_ "embed"
	"fmt"
	"strings"
)

// peer is a metric family of another exporter.
type peer struct{ kind, by string }

//go:embed peers.txt
var peersText string

// peers are the families of the two best-known exporters by name: many
// installations migrate from one of them, and a name that changed its type or
// meaning on that day would make every old rule lie.
var peers = parsePeers(peersText)

// peerCounters are the peers' counters with the type and the meaning of the counter that
// /counters makes of a family.
var peerCounters = []string{"cloudflare_zone_requests_total", "cloudflare_zone_threats_total", "cloudflare_zone_requests_by_method_total"}

func parsePeers(text string) map[string]peer {
	out := map[string]peer{}
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		f := strings.Fields(line)
		if len(f) != 3 {
			panic(fmt.Sprintf("peers.txt: line %q must be name, type and exporter", line))
		}
		p := peer{kind: f[1], by: f[2]}
		if have, ok := out[f[0]]; ok {
			p.by = have.by + " and " + p.by
		}
		out[f[0]] = p
	}
	return out
}
