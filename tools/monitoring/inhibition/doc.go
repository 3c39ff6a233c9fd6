// Package inhibition tests deploy/alerts/alertmanager.yml with Alertmanager's own
// code: of two alerts for one cause, which one is sent.
package inhibition
