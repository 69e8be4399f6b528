// Package walls holds one test: that imports fall from floor to floor and that
// the four walls of the house stand. docs/DESIGN.md says why it is built so.
package walls
