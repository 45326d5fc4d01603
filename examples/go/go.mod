module example.invalid/answer

go 1.22
