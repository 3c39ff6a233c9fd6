package main

import (
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"time"
)

// series is what a graph shows as one line.
type series struct {
	name   string
	times  []float64
	values []float64
}

// ask evaluates an expression over the time that is drawn.
func (o options) ask(expr, legend string) ([]series, error) {
	step := max(o.end.Sub(o.start)/300, time.Minute)
	response, err := http.PostForm(o.prometheus+"/api/v1/query_range", url.Values{
		"query": {expanded(expr)}, "step": {strconv.Itoa(int(step.Seconds()))},
		"start": {strconv.FormatInt(o.start.Unix(), 10)}, "end": {strconv.FormatInt(o.end.Unix(), 10)},
	})
	if err != nil {
		return nil, fmt.Errorf("query Prometheus: %w", err)
	}
	defer response.Body.Close()
	var reply struct {
		Status, Error string
		Data          struct {
			Result []struct {
				Metric map[string]string
				Values [][2]any
			}
		}
	}
	if err := json.NewDecoder(response.Body).Decode(&reply); err != nil {
		return nil, fmt.Errorf("query Prometheus: %s: %w", response.Status, err)
	}
	if reply.Status != "success" {
		return nil, fmt.Errorf("query Prometheus: %s: %s", reply.Error, expr)
	}
	var out []series
	for _, r := range reply.Data.Result {
		s := series{name: named(legend, r.Metric)}
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
