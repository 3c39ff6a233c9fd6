package catalogue

import (
	"fmt"
	"slices"
	"strings"

	"github.com/weir-metrics/weir/services/collector/internal/yamlspec"
)

// Profiles of built-in datasets.
const (
	// DefaultProfile are the datasets that the files enable.
	DefaultProfile = "default"
	// LablabsProfile are those that show what lablabs/cloudflare-exporter shows.
	LablabsProfile = "lablabs"
	// AllProfile is every built-in dataset.
	AllProfile = "all"
)

// Profiles are the names of the profiles.
var Profiles = []string{DefaultProfile, LablabsProfile, AllProfile}

// lablabs are the datasets of that profile besides the default ones. What that exporter shows
// by an option only is not here.
var lablabs = []string{
	"account_logpush", "asns", "browsers", "colo_hosts", "edge_responses", "firewall_rule_names", "firewall_rules", "health_checks",
	"load_balancer_pools", "load_balancing", "logpush", "origin_responses", "r2_operations", "r2_storage", "threat_countries", "threat_types",
	"tunnel_connectors", "tunnels", "worker_durations", "workers",
}

// profile enables the datasets of a profile, before a user's file is read.
func (k *declared) profile(name string, bad *problems) {
	settings := yamlspec.Place{}
	switch name {
	case "", DefaultProfile:
		return
	case LablabsProfile, AllProfile:
	default:
		bad.add(settings, "profile is %q; it must be one of %s", name, strings.Join(Profiles, ", "))
		return
	}
	for _, s := range k.datasets {
		if name == AllProfile || slices.Contains(lablabs, s.Name) {
			s.Enabled = new(bool)
			*s.Enabled = true
		}
	}
}

// ProfilesMarkdown lists the datasets of each profile.
func ProfilesMarkdown() (string, error) {
	var b strings.Builder
	b.WriteString("| profile | datasets |\n| --- | --- |\n")
	for _, name := range Profiles {
		c, err := Load(nil, Options{Profile: name})
		if err != nil {
			return "", err
		}
		var ids []string
		for i := range c.Datasets {
			ids = append(ids, "`"+c.Datasets[i].Dataset+"`")
		}
		text := strings.Join(ids, ", ")
		if name == AllProfile {
			text = fmt.Sprintf("all %d built-in datasets", len(ids))
		}
		fmt.Fprintf(&b, "| `%s` | %s |\n", name, text)
	}
	return b.String(), nil
}
