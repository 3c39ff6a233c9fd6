// The command picture draws the panels of a dashboard from the answers of a
// Prometheus: a contact sheet, where no Grafana is at hand.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

func main() {
	var o options
	flag.StringVar(&o.prometheus, "prometheus", "http://127.0.0.1:9090", "address of the Prometheus")
	flag.StringVar(&o.out, "out", "dashboard.png", "file to write")
	flag.StringVar(&o.zone, "zone", ".*", "zone, or pattern of zones, of dashboards of the traffic")
	flag.StringVar(&o.source, "source", "|replay", "of dashboards of the traffic, as the variable has it: |replay, or counters")
	flag.IntVar(&o.height, "height", 0, "units of Grafana's grid to draw from above; 0: all")
	start := flag.String("start", "", "beginning, in RFC 3339; default: six hours before the end")
	end := flag.String("end", "", "end, in RFC 3339; default: now")
	flag.Parse()
	if err := run(o, *start, *end, flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "picture:", err)
		os.Exit(1)
	}
}

type options struct {
	prometheus, out string
	zone, source    string
	height          int
	start, end      time.Time
}

func run(o options, start, end string, files []string) error {
	if len(files) != 1 {
		return fmt.Errorf("name one dashboard to draw, got %d", len(files))
	}
	var err error
	if o.end, err = moment(end, time.Now()); err != nil {
		return fmt.Errorf("-end: %w", err)
	}
	if o.start, err = moment(start, o.end.Add(-6*time.Hour)); err != nil {
		return fmt.Errorf("-start: %w", err)
	}
	if !o.start.Before(o.end) {
		return fmt.Errorf("-start %s is not before -end %s", o.start, o.end)
	}
	panels, err := read(files[0])
	if err != nil {
		return err
	}
	return o.draw(panels)
}

func moment(text string, otherwise time.Time) (time.Time, error) {
	if text == "" {
		return otherwise, nil
	}
	return time.Parse(time.RFC3339, text)
}

// target is a query of a panel. Interval is its least step.
type target struct {
	Expr, LegendFormat, Interval string
	Instant                      bool
}

// panel is a panel of the dashboard, as far as it is drawn.
type panel struct {
	Title, Type string
	GridPos     struct{ H, W, X, Y int }
	Targets     []target
	FieldConfig struct {
		Defaults struct {
			Unit     string
			NoValue  string
			Mappings []struct {
				Options map[string]struct{ Text string }
			}
			Custom struct{ Stacking struct{ Mode string } }
		}
		Overrides []struct {
			Matcher    struct{ Options any }
			Properties []struct {
				ID    string
				Value any
			}
		}
	}
}

// unit is that of a column.
func (p *panel) unit(column string) string {
	for _, o := range p.FieldConfig.Overrides {
		for _, property := range o.Properties {
			if unit, is := property.Value.(string); is && property.ID == "unit" && o.Matcher.Options == column {
				return unit
			}
		}
	}
	return p.FieldConfig.Defaults.Unit
}

// state is the word for a figure, if the panel has one.
func (p *panel) state(figure string) string {
	for _, m := range p.FieldConfig.Defaults.Mappings {
		if o, known := m.Options[figure]; known {
			return o.Text
		}
	}
	return figure
}

func read(file string) ([]panel, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read the dashboard: %w", err)
	}
	var d struct{ Panels []panel }
	if err := json.Unmarshal(text, &d); err != nil {
		return nil, fmt.Errorf("read the dashboard %s: %w", file, err)
	}
	if len(d.Panels) == 0 {
		return nil, fmt.Errorf("%s has no panels", file)
	}
	return d.Panels, nil
}

// step is the distance of a graph's points: at least the panel's least step.
func (o options) step(t target) time.Duration {
	least := time.Minute
	if d, err := time.ParseDuration(strings.NewReplacer("$bucket", "5m", "1d", "24h").Replace(t.Interval)); err == nil {
		least = d
	}
	return max((o.end.Sub(o.start) / 300).Truncate(time.Minute), least)
}

// step is that of a panel's graph.
func (p *panel) step(o options) time.Duration {
	step := time.Minute
	for _, t := range p.Targets {
		step = max(step, o.step(t))
	}
	return step
}

// expanded is an expression with everything selected but the zone, for scrapes a minute apart.
func (o options) expanded(t target) string {
	step := o.step(t)
	return strings.NewReplacer(
		"$__rate_interval", duration(max(4*time.Minute, step+time.Minute)), "$__interval_ms", strconv.FormatInt(step.Milliseconds(), 10), "$__interval", duration(step),
		"$__range", duration(o.end.Sub(o.start)),
		"$namespace", ".*", "$job", ".*", "$dataset", ".*", "$account", ".*", "$zone", o.zone, "$source", o.source,
	).Replace(t.Expr)
}

func duration(d time.Duration) string { return strconv.Itoa(int(d.Seconds())) + "s" }
