package bucketsvc_test

import (
	"testing"

	"github.com/weir-metrics/weir/internal/feedtest"
	"github.com/weir-metrics/weir/services/collector/internal/bucketsvc"
)

func TestExamOnSQLite(t *testing.T) {
	feedtest.Run(t, func(t *testing.T) feedtest.Subject { return newRigOn(t, newSQLite(t), bucketsvc.Limits{}).subject() })
}

func TestExamOnPostgres(t *testing.T) {
	feedtest.Run(t, func(t *testing.T) feedtest.Subject { return newRigOn(t, newPostgres(t), bucketsvc.Limits{}).subject() })
}
