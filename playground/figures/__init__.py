"""From results to plotly figures; no torch, no Streamlit."""
