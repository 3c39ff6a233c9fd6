package ops

import (
	"fmt"
	"testing"
)

// A client that hangs up is its own affair; metrics that cannot be gathered are not.
func TestHungUp(t *testing.T) {
	for text, want := range map[string]bool{
		"error encoding and sending metric family: context canceled":                                       true,
		"error encoding and sending metric family: write tcp 127.0.0.1:1->127.0.0.1:2: write: broken pipe": true,
		"error gathering metrics: collected metric weir_x was collected before with the same name":         false,
	} {
		if got := hungUp(fmt.Sprintln(text)); got != want {
			t.Errorf("%s: hung up: %t, want %t", text, got, want)
		}
	}
}
