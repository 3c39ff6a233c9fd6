package main

import (
	"fmt"
	"image/color"
	"maps"
	"math"
	"slices"
	"strings"

	"gonum.org/v1/plot/vg"
	vgdraw "gonum.org/v1/plot/vg/draw"
)

// cells is a row of a list: its labels, and a value for each column that has one.
type cells struct {
	labels map[string]string
	values []float64
}

// list draws a table, and a map as the table that is behind it: where the bubbles would
// be is for Grafana to know.
func (o options) list(area vgdraw.Canvas, p panel) error {
	rows := map[string]*cells{}
	names := map[string]bool{}
	for i, t := range p.Targets {
		all, err := o.ask(t)
		if err != nil {
			return err
		}
		for _, s := range all {
			if len(s.values) == 0 {
				continue
			}
			key := fmt.Sprint(s.labels)
			if rows[key] == nil {
				rows[key] = &cells{labels: s.labels, values: slices.Repeat([]float64{math.NaN()}, len(p.Targets))}
			}
			rows[key].values[i] = s.values[0]
			for name := range s.labels {
				names[name] = true
			}
		}
	}
	sorted := slices.SortedFunc(maps.Values(rows), func(a, b *cells) int {
		switch x, y := a.values[0], b.values[0]; {
		case math.IsNaN(x) && math.IsNaN(y) || x == y:
			return strings.Compare(fmt.Sprint(a.labels), fmt.Sprint(b.labels))
		case math.IsNaN(y) || x > y:
			return -1
		}
		return 1
	})
	labels := slices.Sorted(maps.Keys(names))
	heads := slices.Clone(labels)
	for _, t := range p.Targets {
		heads = append(heads, t.LegendFormat)
	}
	title := p.Title
	if p.Type == "geomap" {
		title += " (a map in Grafana)"
	}
	size := area.Size()
	write(area, title, 9, color.Black, vg.Points(8), size.Y-vg.Points(14))
	if len(sorted) == 0 {
		write(area, p.FieldConfig.Defaults.NoValue, 8, color.Gray{90}, vg.Points(8), size.Y-vg.Points(30))
		return nil
	}
	width := (size.X - vg.Points(16)) / vg.Length(max(len(heads), 1))
	at := func(row, column int) (x, y vg.Length) {
		return vg.Points(8) + width*vg.Length(column), size.Y - vg.Points(28) - vg.Points(11)*vg.Length(row)
	}
	for c, head := range heads {
		x, y := at(0, c)
		write(area, clipped(head, width), 7, color.Gray{90}, x, y)
	}
	for r, row := range sorted {
		if _, y := at(r+1, 0); y < vg.Points(4) {
			break
		}
		for c, name := range labels {
			x, y := at(r+1, c)
			write(area, clipped(row.labels[name], width), 7, color.Black, x, y)
		}
		for c, v := range row.values {
			x, y := at(r+1, len(labels)+c)
			if !math.IsNaN(v) {
				write(area, figure(v, p.unit(p.Targets[c].LegendFormat)), 7, color.Black, x, y)
			}
		}
	}
	return nil
}

// clipped is what a column of a width holds of a text.
func clipped(text string, width vg.Length) string {
	letters := int(width / vg.Points(3.8))
	if r := []rune(text); len(r) > letters {
		return string(r[:max(letters-1, 0)]) + "…"
	}
	return text
}
