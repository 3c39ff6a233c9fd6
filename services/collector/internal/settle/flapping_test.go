package settle_test

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/services/collector/internal/settle"
)

// Windows are empty, are there for a few minutes, and are empty again. What was
// seen in one answer is no proof of the emptiness in another.
func TestOnlyItsOwnAnswerIsWitnessOfAnEmptiness(t *testing.T) {
	d := newDataset(busy())
	look(t, d, at(5*time.Minute), noon, 0)
	look(t, d, at(11*time.Minute), noon.Add(size), 100)
	look(t, d, at(15*time.Minute), noon.Add(2*size), 100)
	if v := look(t, d, at(16*time.Minute), noon, 0); v.Final != 0 {
		t.Fatal("an emptiness was believed on the word of other answers")
	}
	wantFinal(t, lookBefore(t, d, at(27*time.Minute), noon, 0), bucket.SuspectConfirmed)
}

// Each answer comes from one of several replicas: some show nothing at all, some
// are half an hour behind. The zone always had traffic, so that no emptiness may
// be believed before the age at which silence is; and what an up-to-date replica
// shows must get through.
func TestNoEmptinessIsBelievedWhereReplicasDiffer(t *testing.T) {
	for seed := range uint64(200) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			rng := rand.New(rand.NewPCG(seed, 0))
			d, final := newDataset(busy()), map[bucket.Time]bool{}
			lags := []time.Duration{0, 0, 30 * time.Minute, 24 * time.Hour}
			for now := noon.Add(2 * size); now < noon.Add(5*time.Hour); now = now.Add(time.Duration(30+rng.IntN(60)) * time.Second) {
				cut := now.Add(-lags[rng.IntN(len(lags))])
				var answer []settle.Reading
				for start, along := noon, 0; start.Add(2*size) <= now; start = start.Add(size) {
					r := reading(start, min(100, max(0, cut.Sub(start).Minutes()*20)))
					switch along--; {
					case !final[start] && now >= d.Again(zone, start):
						if d.Read(zone, start) {
							along = 4
						}
						answer = append(answer, r)
					case final[start] && along > 0:
						r.Closed = true
						answer = append(answer, r)
					}
				}
				if len(answer) == 0 {
					continue
				}
				for i, v := range observe(d, now, map[bucket.Scope][]settle.Reading{zone: answer})[zone] {
					if v.Final == 0 {
						continue
					}
					if answer[i].Level != 100 {
						t.Fatalf("at %s the window of %s is final with %v of 100", now, v.Start, answer[i].Level)
					}
					d.Stored(zone, settle.Final{Start: v.Start, Level: 100})
					final[v.Start] = true
				}
			}
			if len(final) < 30 {
				t.Errorf("only %d windows of five hours were ever final", len(final))
			}
		})
	}
}
