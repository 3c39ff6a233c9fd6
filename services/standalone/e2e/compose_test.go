package e2e

import (
	"encoding/json"
	"fmt"
	"net"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/google/go-cmp/cmp"

	"github.com/weir-metrics/weir/internal/pgtest"
	"github.com/weir-metrics/weir/internal/promtest"
	"github.com/weir-metrics/weir/internal/testkit"
)

// compose is deploy/compose.yaml as far as programs see it.
type compose struct {
	Services map[string]struct {
		Image       string
		Command     []string
		Environment map[string]string
		Secrets     []string
		Configs     []struct{ Source, Target string }
		Volumes     []string
		Ports       []string
	}
	Configs map[string]struct{ File, Content string }
	Secrets map[string]struct{ File string }
}

var variable = regexp.MustCompile(`\$\{([A-Z_]+)(?::([-?])([^}]*))?\}`)

// readCompose is the file with these variables. Compose's own loader reads it in
// tools/supply.
func readCompose(t *testing.T, variables map[string]string) (c compose) {
	t.Helper()
	text := variable.ReplaceAllStringFunc(string(testkit.RepoFile(t, "deploy/compose.yaml")), func(s string) string {
		m := variable.FindStringSubmatch(s)
		switch value := variables[m[1]]; {
		case value != "":
			return value
		case m[2] == "?":
			t.Fatalf("compose.yaml needs %s", m[1])
		}
		return m[3]
	})
	if err := yaml.UnmarshalWithOptions([]byte(text), &c, yaml.AllowDuplicateMapKey()); err != nil {
		t.Fatal(err)
	}
	return c
}

// config is the content that a service finds at a path.
func (c compose) config(t *testing.T, service, target string) string {
	t.Helper()
	for _, f := range c.Services[service].Configs {
		if f.Target != target {
			continue
		}
		if file := c.Configs[f.Source].File; file != "" {
			return string(testkit.RepoFile(t, path.Join("deploy", file)))
		}
		return c.Configs[f.Source].Content
	}
	t.Fatalf("compose.yaml: %s has no file %s", service, target)
	return ""
}

// settings are a service's environment, with the files of its secrets where they are.
func (c compose) settings(t *testing.T, service string, hosts *strings.Replacer) (settings []string) {
	t.Helper()
	files := map[string]string{}
	for _, name := range c.Services[service].Secrets {
		files["/run/secrets/"+name] = c.Secrets[name].File
	}
	for name, value := range c.Services[service].Environment {
		if strings.HasPrefix(value, "/run/secrets/") {
			if files[value] == "" {
				t.Errorf("compose.yaml: %s of %s is %s, which is none of its secrets", name, service, value)
			}
			value = files[value]
		}
		settings = append(settings, name+"="+hosts.Replace(value))
	}
	return settings
}

// The parts of deploy/compose.yaml work together: a real Postgres, the programs with the
// commands, environments and secrets that stand there, and a real Prometheus with its
// configuration and rules. Only names and ports of hosts are others.
func TestCompose(t *testing.T) {
	sim, folder := simulate(t, nil), t.TempDir()
	for name, content := range map[string]string{
		"cloudflare-token": apiToken, "database-url": pgtest.DSN(t), "postgres-password": "unused", "grafana-password": "unused",
	} {
		testkit.WriteFile(t, filepath.Join(folder, name), []byte(content))
	}
	c := readCompose(t, map[string]string{"WEIR_SECRETS": folder})
	collector := &service{t: t, name: "collector", data: address(t), ops: address(t)}
	exposer := &service{t: t, name: "exposer", data: address(t), ops: address(t)}
	hosts := strings.NewReplacer("collector:9820", collector.data, "collector:9821", collector.ops, "exposer:9810", exposer.data, "exposer:9811", exposer.ops)
	collector.settings = c.settings(t, "collector", hosts)
	exposer.settings = c.settings(t, "exposer", hosts)

	for name, image := range map[string]string{"migrate": "collector", "collector": "collector", "exposer": "exposer"} {
		if got := strings.Split(path.Base(c.Services[name].Image), ":")[0]; got != image {
			t.Errorf("the image of %s is %s", name, c.Services[name].Image)
		}
	}
	// What others reach them at is where they listen without a setting.
	for s, ports := range map[*service][]string{collector: {"9820", "9821"}, exposer: {"9810", "9811"}} {
		o := complete(t, s.command("run", "--print-config"))
		for _, port := range ports {
			if o.code != 0 || !strings.Contains(o.stdout, ":"+port) {
				t.Errorf("%s does not listen on %s: exit code %d\n%s%s", s.name, port, o.code, o.stdout, o.stderr)
			}
		}
	}

	migrate := &service{t: t, name: "collector", settings: c.settings(t, "migrate", hosts)}
	if o := complete(t, migrate.command(c.Services["migrate"].Command...)); o.code != 0 {
		t.Fatalf("%q ended with %d:\n%s%s", c.Services["migrate"].Command, o.code, o.stdout, o.stderr)
	}
	collector.settings = append(collector.settings, "WEIR_CLOUDFLARE_URL="+sim.url, "WEIR_INITIAL_LOOKBACK=2h", "WEIR_COLLECTOR_LISTEN="+collector.data, "WEIR_COLLECTOR_OPS_LISTEN="+collector.ops)
	exposer.settings = append(exposer.settings, "WEIR_EXPOSER_LISTEN="+exposer.data, "WEIR_EXPOSER_OPS_LISTEN="+exposer.ops)
	for _, s := range []*service{collector, exposer} {
		s.process = launch(t, s.name, s.command(c.Services[s.name].Command...))
	}
	collector.ready()
	exposer.ready()

	rules := filepath.Join(folder, "rules.yaml")
	testkit.WriteFile(t, rules, []byte(c.config(t, "prometheus", "/etc/prometheus/weir.rules.yaml")))
	config := strings.NewReplacer("/etc/prometheus/weir.rules.yaml", rules, "scrape_interval: 1m", "scrape_interval: 1s", "scrape_timeout: 30s", "scrape_timeout: 1s").
		Replace(hosts.Replace(c.config(t, "prometheus", "/etc/prometheus/prometheus.yml")))
	config = "global: {scrape_interval: 1s, scrape_timeout: 1s}\n" + config
	prometheus := promtest.Start(t, config)
	prometheus.Reload(strings.ReplaceAll(config, "127.0.0.1:9090", strings.TrimPrefix(prometheus.URL(), "http://")))
	testkit.Eventually(t, func() error {
		now := time.Now()
		if up := prometheus.Query(`up == 1`, now); len(up) != 4 {
			return fmt.Errorf("%d targets are up, want 4: %v", len(up), up)
		}
		if got := prometheus.Query(`last_over_time(cloudflare_zone_requests{instance="weir"}[3h])`, now); len(got) == 0 {
			return constError("Prometheus has no requests of zones")
		}
		return nil
	})
	loaded, err := page(prometheus.URL() + "/api/v1/rules?type=alert")
	if err != nil || !strings.Contains(loaded, `"WeirScrapesRefused"`) {
		t.Errorf("the alerts are not loaded: %v\n%.300s", err, loaded)
	}
	collector.stop()
	exposer.stop()
}

// The Prometheus of compose.yaml has the configuration that is shipped for any other.
func TestComposeHasTheShippedConfiguration(t *testing.T) {
	c := readCompose(t, map[string]string{"WEIR_SECRETS": "x"})
	var inside, shipped map[string]any
	text := strings.NewReplacer("exposer:", "127.0.0.1:", "collector:", "127.0.0.1:", "/etc/prometheus/", "../alerts/").Replace(c.config(t, "prometheus", "/etc/prometheus/prometheus.yml"))
	if err := yaml.Unmarshal([]byte(text), &inside); err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal(testkit.RepoFile(t, "deploy/prometheus/prometheus.yml"), &shipped); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(shipped, inside); diff != "" {
		t.Errorf("-prometheus.yml +compose.yaml:\n%s", diff)
	}
}

// Grafana cannot be run here. What it is given names what exists: the data source is the
// Prometheus of the file and of the type that the dashboards ask for, and the dashboards
// are where Grafana looks for them.
func TestComposeProvisionsGrafana(t *testing.T) {
	c := readCompose(t, map[string]string{"WEIR_SECRETS": "x"})
	grafana := c.Services["grafana"]
	var sources struct {
		Datasources []struct {
			Type, URL string
			IsDefault bool `yaml:"isDefault"`
		}
	}
	if err := yaml.Unmarshal([]byte(c.config(t, "grafana", "/etc/grafana/provisioning/datasources/weir.yaml")), &sources); err != nil {
		t.Fatal(err)
	}
	if len(sources.Datasources) != 1 || sources.Datasources[0].Type != "prometheus" || sources.Datasources[0].URL != "http://prometheus:9090" || !sources.Datasources[0].IsDefault {
		t.Errorf("data sources %+v", sources)
	}
	_, port, err := net.SplitHostPort(strings.TrimPrefix(c.Services["prometheus"].Ports[0], "127.0.0.1:"))
	if err != nil || port != "9090" {
		t.Errorf("Prometheus is published as %q, %v", c.Services["prometheus"].Ports, err)
	}

	var providers struct {
		Providers []struct {
			Type    string
			Options struct{ Path string }
		}
	}
	if err := yaml.Unmarshal([]byte(c.config(t, "grafana", "/etc/grafana/provisioning/dashboards/weir.yaml")), &providers); err != nil {
		t.Fatal(err)
	}
	if len(providers.Providers) != 1 || providers.Providers[0].Type != "file" {
		t.Fatalf("providers %+v", providers)
	}
	folder, from := providers.Providers[0].Options.Path, ""
	for _, v := range grafana.Volumes {
		if parts := strings.Split(v, ":"); parts[1] == folder {
			from = path.Join("deploy", parts[0])
		}
	}
	root, err := testkit.Root()
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(root, from, "*.json"))
	if err != nil || from == "" || len(files) == 0 {
		t.Fatalf("%s is mounted from %q with %v, %v", folder, from, files, err)
	}
	uids := map[string]string{}
	for _, f := range files {
		var dashboard struct {
			UID        string
			Templating struct {
				List []struct{ Name, Type, Query json.RawMessage }
			}
		}
		if err := json.Unmarshal(testkit.RepoFile(t, path.Join(from, filepath.Base(f))), &dashboard); err != nil {
			t.Fatalf("%s: %v", f, err)
		}
		if before := uids[dashboard.UID]; dashboard.UID == "" || before != "" {
			t.Errorf("%s has the uid %q, which is also that of %q", f, dashboard.UID, before)
		}
		uids[dashboard.UID] = f
		asked := ""
		for _, v := range dashboard.Templating.List {
			if string(v.Type) == `"datasource"` {
				asked += string(v.Query)
			}
		}
		if asked != `"prometheus"` {
			t.Errorf("%s asks for data sources of the types %s, want prometheus", f, asked)
		}
	}
	home := grafana.Environment["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
	if path.Dir(home) != folder {
		t.Errorf("the home dashboard is %s, and dashboards are in %s", home, folder)
	}
	testkit.RepoFile(t, path.Join(from, path.Base(home)))
}
