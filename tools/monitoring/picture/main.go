// The command picture draws the panels of a dashboard from the answers of a
// Prometheus: a contact sheet, where no Grafana is at hand.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"strings"
	"time"
)

func main() {
	var o options
	flag.StringVar(&o.prometheus, "prometheus", "http://127.0.0.1:9090", "address of the Prometheus")
	flag.StringVar(&o.out, "out", "dashboard.png", "file to write")
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
	return draw(o, panels)
}

func moment(text string, otherwise time.Time) (time.Time, error) {
	if text == "" {
		return otherwise, nil
	}
	return time.Parse(time.RFC3339, text)
}

// panel is a panel of the dashboard, as far as it is drawn.
type panel struct {
	Title, Type string
	GridPos     struct{ H, W, X, Y int }
	Targets     []struct{ Expr, LegendFormat string }
	FieldConfig struct {
		Defaults struct {
			Unit     string
			NoValue  string
			Mappings []struct {
				Options map[string]struct{ Text string }
			}
			Custom struct{ Stacking struct{ Mode string } }
		}
	}
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

// expanded is an expression with everything selected, for scrapes a minute apart.
func expanded(expr string) string {
	return strings.NewReplacer("$__rate_interval", "4m", "$namespace", ".*", "$job", ".*", "$dataset", ".*").Replace(expr)
}
