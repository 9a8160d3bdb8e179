"""Where reports go: TensorBoard, JSON lines, the console, functions of the user."""
