// Command smelt fuses fine-tuned models into one, without retraining.
package main

import (
	"os"

	"smelt/internal/cli"
)

func main() { os.Exit(cli.Main(os.Args[1:], os.Stdout, os.Stderr)) }
