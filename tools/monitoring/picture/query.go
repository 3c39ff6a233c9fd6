package main

import (
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
)

// series is what a graph shows as one line, or a list as a cell.
type series struct {
	name   string
	labels map[string]string
	times  []float64
	values []float64
}

// ask evaluates a query at the end, or over the time that is drawn.
func (o options) ask(t target) ([]series, error) {
	step := o.step(t)
	// Grafana's points are at multiples of the step.
	path, args := "query_range", url.Values{
		"query": {o.expanded(t)}, "step": {strconv.Itoa(int(step.Seconds()))},
		"start": {strconv.FormatInt(o.start.Truncate(step).Unix(), 10)}, "end": {strconv.FormatInt(o.end.Truncate(step).Unix(), 10)},
	}
	if t.Instant {
		path, args = "query", url.Values{"query": {o.expanded(t)}, "time": {strconv.FormatInt(o.end.Unix(), 10)}}
	}
	response, err := http.PostForm(o.prometheus+"/api/v1/"+path, args)
	if err != nil {
		return nil, fmt.Errorf("query Prometheus: %w", err)
	}
	defer response.Body.Close()
	var reply struct {
		Status, Error string
		Data          struct {
			Result []struct {
				Metric map[string]string
				Value  [2]any
				Values [][2]any
			}
		}
	}
	if err := json.NewDecoder(response.Body).Decode(&reply); err != nil {
		return nil, fmt.Errorf("query Prometheus: %s: %w", response.Status, err)
	}
	if reply.Status != "success" {
		return nil, fmt.Errorf("query Prometheus: %s: %s", reply.Error, t.Expr)
	}
	var out []series
	for _, r := range reply.Data.Result {
		s := series{name: named(t.LegendFormat, r.Metric), labels: r.Metric}
		if t.Instant {
			r.Values = [][2]any{r.Value}
		}
		for _, p := range r.Values {
			at, _ := p[0].(float64)
			text, _ := p[1].(string)
			value, err := strconv.ParseFloat(text, 64)
			if err != nil || math.IsNaN(value) || math.IsInf(value, 0) {
				continue // Grafana draws nothing there either
			}
			s.times, s.values = append(s.times, at), append(s.values, value)
		}
		out = append(out, s)
	}
	return out, nil
}

var label = regexp.MustCompile(`\{\{(\w+)\}\}`)

func named(legend string, metric map[string]string) string {
	return label.ReplaceAllStringFunc(legend, func(l string) string { return metric[l[2:len(l)-2]] })
}
