-- Who wants no mail, and who has a discount still.
SELECT customer_id FROM customers WHERE unsubscribed_on IS NOT NULL
UNION
SELECT customer_id FROM offers
WHERE accepted AND received_on >= date((SELECT max(day) FROM usage), '-60 days')
