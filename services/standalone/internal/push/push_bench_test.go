package push

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/clock"
	"github.com/weir-metrics/weir/internal/feedtest"
	"github.com/weir-metrics/weir/services/standalone/internal/deliver"
	"github.com/weir-metrics/weir/services/standalone/internal/export"
)

// BenchmarkPush sends the log of an hour of 300 zones with 16 datasets, each with a bucket of
// 20 samples every five minutes, to a receiver that reads each request: 57,600 buckets. The
// log grows by that in an hour, so that an hour divided by the time of an iteration is how
// many times faster than the log a push is.
func BenchmarkPush(b *testing.B) {
	const zones, datasets, windows = 300, 16, 12
	feed := feedtest.NewScripted("store")
	var entries []feedtest.Entry
	for d := range datasets {
		entries = append(entries, feedtest.Entry{Definition: definition(d)})
	}
	feed.Append(feedtest.T0, entries...)
	samples := 0
	for w := range windows {
		entries = entries[:0]
		for d := range datasets {
			for z := range zones {
				x := filled(d, z, w)
				for i := range x.Families {
					samples += len(x.Families[i].Values)
				}
				entries = append(entries, feedtest.Entry{Bucket: x})
			}
		}
		feed.Append(feedtest.T0.Add(time.Duration(w+2)*5*time.Minute), entries...)
	}
	head := feed.Head().Revision
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.WriteHeader(http.StatusNoContent)
	}))
	defer server.Close()
	conn := feed.Serve(b)
	b.ReportAllocs()
	for b.Loop() {
		to, err := deliver.NewRemoteWrite(server.URL+"/api/v1/write", server.Client(), time.Now)
		if err != nil {
			b.Fatal(err)
		}
		folder := b.TempDir()
		file, _, err := OpenCursor(filepath.Join(folder, "cursor.json"), server.URL)
		if err != nil {
			b.Fatal(err)
		}
		ctx, cancel := context.WithCancel(b.Context())
		p := New(Config{
			Conn: conn, To: to, Labels: []export.Label{{Name: "job", Value: "weir"}}, Repeatable: true, File: file, Start: Start{Beginning: true},
			Report: filepath.Join(folder, "report"), MaxLag: time.Hour, Min: time.Second, Max: time.Minute,
			Clock: clock.System(), Logger: slog.New(slog.DiscardHandler), Meter: NewMeter(prometheus.NewRegistry()),
		})
		done := make(chan error)
		go func() { done <- p.Run(ctx) }()
		for {
			c, err := file.read()
			if err != nil {
				b.Fatal(err)
			}
			if c != nil && c.Revision == head {
				break
			}
			time.Sleep(time.Millisecond)
		}
		cancel()
		if err := <-done; err != nil {
			b.Fatal(err)
		}
		if err := file.Close(); err != nil {
			b.Fatal(err)
		}
	}
	each := b.Elapsed().Seconds() / float64(b.N)
	b.ReportMetric(float64(samples)/each, "samples/s")
	b.ReportMetric(windows*300/each, "times-growth")
}

func definition(n int) *bucket.Definition {
	d := feedtest.Definition(fmt.Sprintf("d%02d_5m", n), 1)
	for i := range d.Families {
		d.Families[i].Name = fmt.Sprintf("%s_%02d", d.Families[i].Name, n)
	}
	return d
}

// filled is a bucket with a total and a breakdown of 19.
func filled(dataset, zone, window int) *bucket.Bucket {
	d := definition(dataset)
	x := feedtest.Bucket(d.Dataset, feedtest.Zone(zone), window)
	x.Families = []bucket.Rows{{Family: d.Families[0].Name, Values: []float64{float64(window * zone)}}, {Family: d.Families[1].Name}}
	for i := range 19 {
		x.Families[1].Labels = append(x.Families[1].Labels, fmt.Sprintf("%03d", 200+i))
		x.Families[1].Values = append(x.Families[1].Values, float64(i*1000+window))
	}
	return x
}
