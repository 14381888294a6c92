SELECT customer_id, first_name, email FROM customers WHERE left_on IS NULL
