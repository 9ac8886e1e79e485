terraform {
  required_version = ">= 1.9"

  required_providers {
    # The schema that the tests hold these files against is that of 6.50.
    google = {
      source  = "hashicorp/google"
      version = "~> 6.50"
    }
    time = {
      source  = "hashicorp/time"
      version = "~> 0.13"
    }
  }
}
