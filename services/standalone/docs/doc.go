// Package docs keeps the documents at the root and under docs/ true: it writes
// those that are made from code, and checks the others against the tree.
//
// It is here because the standalone module is the only one that may import
// both services.
package docs

//go:generate go test -run ^TestGenerated -update .
