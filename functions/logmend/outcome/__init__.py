"""What is said of an event: its document, its reasons and next steps, its acknowledgement."""
