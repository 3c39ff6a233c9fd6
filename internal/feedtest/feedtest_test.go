package feedtest_test

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/weir-metrics/weir/internal/feedtest"
)

func TestScriptedPassesTheExam(t *testing.T) {
	feedtest.Run(t, func(t *testing.T) feedtest.Subject {
		s := feedtest.NewScripted("00112233445566778899aabbccddeeff")
		s.Heartbeat = 20 * time.Millisecond
		return s.Subject(t)
	})
}

func TestWalkOfTheScripted(t *testing.T) {
	feedtest.Walk(t, 20, func(t *testing.T, _ *rand.Rand) feedtest.Arena {
		return feedtest.NewScripted("00112233445566778899aabbccddeeff").Arena(t)
	})
}
