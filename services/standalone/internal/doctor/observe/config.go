package observe

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/prometheus/common/model"

	"github.com/weir-metrics/weir/services/standalone/internal/doctor"
)

// scrapes is what is judged of a configuration of Prometheus or VictoriaMetrics.
type scrapes struct {
	Global struct {
		Interval  string `yaml:"scrape_interval"`
		Timeout   string `yaml:"scrape_timeout"`
		BodyLimit string `yaml:"body_size_limit"`
		Samples   int64  `yaml:"sample_limit"`
	} `yaml:"global"`
	Storage struct {
		TSDB struct {
			Window string `yaml:"out_of_order_time_window"`
		} `yaml:"tsdb"`
	} `yaml:"storage"`
	Jobs []scrapeJob `yaml:"scrape_configs"`
}

type scrapeJob struct {
	Name            string              `yaml:"job_name"`
	Interval        string              `yaml:"scrape_interval"`
	Timeout         string              `yaml:"scrape_timeout"`
	HonorTimestamps *bool               `yaml:"honor_timestamps"`
	TrackStaleness  bool                `yaml:"track_timestamps_staleness"`
	SampleLimit     int64               `yaml:"sample_limit"`
	BodyLimit       string              `yaml:"body_size_limit"`
	MaxScrapeSize   string              `yaml:"max_scrape_size"` // of VictoriaMetrics
	Params          map[string][]string `yaml:"params"`
}

// config asks for the configuration in force.
func (p *Prometheus) config(ctx context.Context, o *doctor.Prometheus) {
	var data struct {
		YAML string `json:"yaml"`
	}
	err := p.data(ctx, "/api/v1/status/config", nil, &data)
	if (err != nil || data.YAML == "") && o.Kind == doctor.KindVictoria { // older releases
		data.YAML, err = p.page(ctx, "/config")
	}
	if err == nil {
		err = configOf(data.YAML, o, cmp.Or(p.pool, o.Job))
	}
	o.ConfigErr = err
}

func configOf(text string, o *doctor.Prometheus, name string) error {
	var c scrapes
	if err := yaml.Unmarshal([]byte(text), &c); err != nil {
		return errors.New("it is not valid YAML") // the error would show secrets beside
	}
	var err error
	if o.Window, err = duration(c.Storage.TSDB.Window, "0s"); err != nil {
		return fmt.Errorf("out_of_order_time_window: %w", err)
	}
	for _, j := range c.Jobs {
		if j.Name != name {
			continue
		}
		job := &doctor.JobConfig{
			HonorTimestamps: o.Kind != doctor.KindVictoria, TrackStaleness: j.TrackStaleness, ReplayHours: -1,
			SampleLimit: first(j.SampleLimit, c.Global.Samples),
		}
		if j.HonorTimestamps != nil {
			job.HonorTimestamps = *j.HonorTimestamps
		}
		var errs [4]error
		job.Interval, errs[0] = duration(first(j.Interval, c.Global.Interval), "1m")
		job.Timeout, errs[1] = duration(first(j.Timeout, c.Global.Timeout), "10s")
		job.BodyLimit, errs[2] = byteSize(first(j.MaxScrapeSize, first(j.BodyLimit, c.Global.BodyLimit)))
		if round := j.Params["round"]; len(round) > 0 {
			job.Round, errs[3] = duration(round[0], "0s")
		}
		if hours := j.Params["replay_hours"]; len(hours) > 0 {
			n, err := strconv.Atoi(hours[0])
			if err != nil {
				return fmt.Errorf("replay_hours of job %s is %q; it must be a whole number", j.Name, hours[0])
			}
			job.ReplayHours = n
		}
		if err := errors.Join(errs[:]...); err != nil {
			return fmt.Errorf("job %s: %w", j.Name, err)
		}
		o.Config = job
	}
	return nil
}

// first is the first of two values that is set.
func first[T comparable](a, b T) T {
	var zero T
	if a != zero {
		return a
	}
	return b
}

func duration(text, unset string) (time.Duration, error) {
	d, err := model.ParseDuration(first(text, unset))
	return time.Duration(d), err
}

// byteSize reads a size as Prometheus writes it, in which MB and MiB are the same.
func byteSize(text string) (int64, error) {
	if text == "" || text == "0" {
		return 0, nil
	}
	upper := strings.ToUpper(strings.ReplaceAll(strings.ReplaceAll(text, "i", ""), "I", ""))
	total, rest := 0.0, upper
	for rest != "" {
		digits := strings.IndexFunc(rest, func(r rune) bool { return (r < '0' || r > '9') && r != '.' })
		if digits < 0 {
			digits = len(rest)
		}
		n, err := strconv.ParseFloat(rest[:digits], 64)
		unit := strings.TrimLeft(rest[digits:], " ")
		next := strings.IndexFunc(unit, func(r rune) bool { return r >= '0' && r <= '9' })
		if next < 0 {
			next = len(unit)
		}
		factor, known := map[string]float64{"": 1, "B": 1, "KB": 1 << 10, "MB": 1 << 20, "GB": 1 << 30, "TB": 1 << 40}[unit[:next]]
		if err != nil || !known {
			return 0, fmt.Errorf("%q is not a size", text)
		}
		total, rest = total+n*factor, unit[next:]
	}
	return int64(total), nil
}
