package main

import (
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/draw"
	"image/png"
	"math"
	"os"
	"slices"
	"strings"
	"time"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/plotutil"
	"gonum.org/v1/plot/vg"
	vgdraw "gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgimg"
)

const (
	// cell is the size of a unit of Grafana's grid.
	cell vg.Length = 20
	// listed is how many series a legend lists, in columns below the graph.
	listed, columns = 12, 3
	// line is the height of a line of a legend.
	line vg.Length = 8
)

func (o options) draw(panels []panel) error {
	height := 0
	for _, p := range panels {
		height = max(height, p.GridPos.Y+p.GridPos.H)
	}
	if o.height > 0 {
		height = min(height, o.height)
		panels = slices.DeleteFunc(panels, func(p panel) bool { return p.GridPos.Y+p.GridPos.H > height })
		height = 0
		for _, p := range panels { // a row whose panels are left out is left out too
			if p.Type != "row" {
				height = max(height, p.GridPos.Y+p.GridPos.H)
			}
		}
		panels = slices.DeleteFunc(panels, func(p panel) bool { return p.GridPos.Y >= height })
	}
	canvas := vgimg.NewWith(vgimg.UseWH(24*2*cell, vg.Length(height)*cell), vgimg.UseDPI(96))
	page := vgdraw.New(canvas)
	page.SetColor(color.White)
	page.Fill(page.Rectangle.Path())
	for _, p := range panels {
		g := p.GridPos
		area := vgdraw.Canvas{Canvas: page.Canvas, Rectangle: vg.Rectangle{
			Min: vg.Point{X: vg.Length(g.X) * 2 * cell, Y: vg.Length(height-g.Y-g.H) * cell},
			Max: vg.Point{X: vg.Length(g.X+g.W) * 2 * cell, Y: vg.Length(height-g.Y) * cell},
		}}
		if err := o.panel(area, p); err != nil {
			return fmt.Errorf("panel %q: %w", p.Title, err)
		}
	}
	return o.write(canvas.Image())
}

// write keeps the picture small: its colours are few.
func (o options) write(picture image.Image) error {
	file, err := os.Create(o.out)
	if err != nil {
		return fmt.Errorf("write the picture: %w", err)
	}
	few := image.NewPaletted(picture.Bounds(), colours())
	draw.Draw(few, few.Bounds(), picture, picture.Bounds().Min, draw.Src)
	encoder := png.Encoder{CompressionLevel: png.BestCompression}
	if err := errors.Join(encoder.Encode(file, few), file.Close()); err != nil {
		return fmt.Errorf("write the picture: %w", err)
	}
	return nil
}

// colours are white, black, those of lines, and shades towards white for their edges.
func colours() (out color.Palette) {
	add := func(c color.Color, shades int) {
		r, g, b, _ := c.RGBA()
		for i := range shades {
			part := func(v uint32) uint8 { return uint8(255 - (255-int(v>>8))*(shades-i)/shades) }
			out = append(out, color.RGBA{part(r), part(g), part(b), 255})
		}
	}
	out = append(out, color.White)
	add(color.Black, 12)
	for i := range plotutil.DefaultColors {
		add(plotutil.Color(i), 6)
	}
	return out
}

func (o options) panel(area vgdraw.Canvas, p panel) error {
	if p.Type == "row" {
		write(area, p.Title, 12, color.Black, vg.Points(4), vg.Points(4))
		return nil
	}
	if p.Type == "table" || p.Type == "geomap" {
		return o.list(area, p)
	}
	var all []series
	for _, t := range p.Targets {
		s, err := o.ask(t)
		if err != nil {
			return err
		}
		all = append(all, s...)
	}
	unit := p.FieldConfig.Defaults.Unit
	if p.Type == "stat" {
		text := p.FieldConfig.Defaults.NoValue
		if len(all) > 0 && len(all[0].values) > 0 {
			text = p.state(figure(all[0].values[len(all[0].values)-1], unit))
		}
		write(area, p.Title, 8, color.Gray{90}, vg.Points(6), area.Size().Y-vg.Points(12))
		if letters := int(area.Size().X / 9); len([]rune(text)) > letters {
			text = clipped(text, vg.Length(letters)*vg.Points(3.8))
		}
		write(area, text, 18, color.Black, vg.Points(6), vg.Points(14))
		return nil
	}
	if p.FieldConfig.Defaults.Custom.Stacking.Mode == "normal" {
		all = stacked(all)
	}
	graph := plot.New()
	graph.Title.Text = p.Title
	if !strings.HasSuffix(p.Title, " a second") {
		graph.Title.Text += inWords(unit)
	}
	graph.Title.TextStyle.Font.Size = 9
	graph.X.Tick.Label.Font.Size, graph.Y.Tick.Label.Font.Size = 6, 6
	graph.X.Tick.Marker = hours{}
	graph.Y.Tick.Marker = scale(unit)
	graph.X.Min, graph.X.Max = float64(o.start.Unix()), float64(o.end.Unix())
	for i, s := range all {
		for _, part := range unbroken(s, p.step(o).Seconds()) {
			line, err := plotter.NewLine(part)
			if err != nil {
				return err
			}
			line.Color = plotutil.Color(i)
			if len(part) == 1 {
				dot, err := plotter.NewScatter(part)
				if err != nil {
					return err
				}
				dot.Color, dot.Radius = line.Color, 1.5
				graph.Add(dot)
				continue
			}
			graph.Add(line)
		}
	}
	if len(all) == 0 {
		graph.Title.Text += ": " + strings.TrimSpace(p.FieldConfig.Defaults.NoValue+" (no data)")
	}
	if graph.Y.Min > 0 {
		graph.Y.Min = 0
	}
	graph.X.Min, graph.X.Max = float64(o.start.Unix()), float64(o.end.Unix())
	if graph.Y.Max <= graph.Y.Min || math.IsInf(graph.Y.Max, 0) {
		graph.Y.Min, graph.Y.Max = 0, 1
	}
	inside := vgdraw.Crop(area, vg.Points(4), -vg.Points(6), vg.Points(4), -vg.Points(4))
	legend := line * vg.Length((min(len(all), listed)+columns-1)/columns)
	graph.Draw(vgdraw.Crop(inside, 0, 0, legend+vg.Points(4), 0))
	for i, s := range all[:min(len(all), listed)] {
		text := s.name
		if i == listed-1 && len(all) > listed {
			text = fmt.Sprintf("and %d more", len(all)-listed+1)
		}
		if cut := []rune(text); len(cut) > 38 { // what a column holds
			text = string(cut[:37]) + "…"
		}
		column := area.Size().X / columns
		x, y := column*vg.Length(i%columns)+vg.Points(8), legend-line*vg.Length(i/columns+1)+vg.Points(5)
		write(area, text, 6, plotutil.Color(i), x, y)
	}
	return nil
}

// unbroken are the parts of a line without holes, whose points are a step apart.
func unbroken(s series, step float64) (out []plotter.XYs) {
	for i := range s.times {
		if i == 0 || s.times[i]-s.times[i-1] > 2*step {
			out = append(out, nil)
		}
		out[len(out)-1] = append(out[len(out)-1], plotter.XY{X: s.times[i], Y: s.values[i]})
	}
	return out
}

// stacked adds each series to those before it.
func stacked(all []series) []series {
	sum := map[float64]float64{}
	out := slices.Clone(all)
	for i, s := range all {
		out[i].values = slices.Clone(s.values)
		for j, t := range s.times {
			sum[t] += s.values[j]
			out[i].values[j] = sum[t]
		}
	}
	return out
}

func write(area vgdraw.Canvas, text string, size font.Length, c color.Color, x, y vg.Length) {
	style := plot.New().Title.TextStyle
	style.Font.Size, style.Color, style.XAlign, style.YAlign = size, c, vgdraw.XLeft, vgdraw.YBottom
	area.FillText(style, vg.Point{X: area.Min.X + x, Y: area.Min.Y + y}, text)
}

// hours writes a tick for each hour, or for a longer time so that they have room.
type hours struct{}

func (hours) Ticks(low, high float64) (ticks []plot.Tick) {
	every := 3600 * math.Ceil((high-low)/3600/8)
	for t := math.Ceil(low/every) * every; t <= high; t += every {
		ticks = append(ticks, plot.Tick{Value: t, Label: time.Unix(int64(t), 0).UTC().Format("15:04")})
	}
	return ticks
}

// scale writes the ticks of an axis in its unit.
type scale string

func (u scale) Ticks(low, high float64) []plot.Tick {
	ticks := plot.DefaultTicks{}.Ticks(low, high)
	for i := range ticks {
		if ticks[i].Label != "" {
			ticks[i].Label = figure(ticks[i].Value, string(u))
		}
	}
	return ticks
}

// inWords is a unit as a title names it, where the axis does not.
func inWords(unit string) string {
	switch unit {
	case "short", "percentunit", "s", "bytes", "decbytes", "Bps":
		return ""
	case "reqps":
		return ", requests a second"
	case "eps":
		return ", events a second"
	case "ops":
		return ", operations a second"
	}
	return " (" + unit + ")"
}

// figure is a value in its unit, as Grafana writes it, more or less.
func figure(v float64, unit string) string {
	short := func(v float64) string { return fmt.Sprintf("%.3g", v) }
	switch unit {
	case "s":
		for _, u := range []struct {
			size float64
			name string
		}{{86400, "d"}, {3600, "h"}, {60, "min"}} {
			if math.Abs(v) >= u.size {
				return short(v/u.size) + " " + u.name
			}
		}
		if v != 0 && math.Abs(v) < 1 {
			return short(v*1000) + " ms"
		}
		return short(v) + " s"
	case "percentunit":
		return short(100*v) + " %"
	case "decbytes", "Bps":
		for _, u := range []struct {
			size float64
			name string
		}{{1e12, "TB"}, {1e9, "GB"}, {1e6, "MB"}, {1e3, "kB"}} {
			if math.Abs(v) >= u.size {
				return short(v/u.size) + " " + u.name + map[string]string{"Bps": "/s"}[unit]
			}
		}
	case "bytes":
		for _, u := range []struct {
			size float64
			name string
		}{{1 << 30, "GiB"}, {1 << 20, "MiB"}, {1 << 10, "KiB"}} {
			if math.Abs(v) >= u.size {
				return short(v/u.size) + " " + u.name
			}
		}
	}
	switch {
	case math.Abs(v) >= 1e6:
		return short(v/1e6) + " Mil"
	case math.Abs(v) >= 1000:
		return short(v/1000) + " K"
	}
	return short(v)
}
